// Package model_test checks the model of arrays that grow.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestGrow(t *testing.T) { spin.Check(t, "grow.pml", "NO_LOCK", "LEN_FIRST", "DIRECTORY_LATE") }

func TestCovers(t *testing.T) { spin.Covers(t, "..", "grow.pml") }
