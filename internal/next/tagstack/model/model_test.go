// Package model_test checks the model of the tagged stack.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestTagstack(t *testing.T) { spin.Check(t, "tagstack.pml", "NO_TAG", "LINK_LATE") }

func TestCovers(t *testing.T) { spin.Covers(t, "..", "tagstack.pml") }
