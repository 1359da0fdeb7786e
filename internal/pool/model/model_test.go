// Package model_test checks the models of pools and of double frees.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestCount(t *testing.T) {
	spin.Check(t, "count.pml",
		"BY_BITS", "ADD_FIRST", "SET_STORE", "CLEAR_STORE", "SPLIT_LEFT", "SPLIT_GAVE", "READ_LATE", "CARVE_LATE")
}

// TestCountThree: with three goroutines, two of which only scatter, or one of them for some
// calls.
func TestCountThree(t *testing.T) {
	spin.Holds(t, "count.pml", "CLASSES=1", "WORKERS=1", "GIVERS=2")
	spin.Holds(t, "count.pml", "CLASSES=1", "WORKERS=2", "GIVERS=1", "CALLS=6")
}

// TestCountPools: with two pools of a class.
func TestCountPools(t *testing.T) { spin.Holds(t, "count.pml", "CLASSES=1", "POOLS=2", "CALLS=7") }

func TestDouble(t *testing.T) {
	spin.Check(t, "double.pml", "LOAD_STORE", "BLIND", "COUNT_RUN", "TOLD", "COINCIDE", "EARLY", "EMPTY")
}
