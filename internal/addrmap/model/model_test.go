// Package model_test checks the model of the arena map.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestPublish(t *testing.T) { spin.Check(t, "publish.pml", "NO_LOCK", "PUBLISH_FIRST") }

func TestCovers(t *testing.T) { spin.Covers(t, "..", "publish.pml") }
