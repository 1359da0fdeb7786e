// Package model_test checks the models of grace periods.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestSwap(t *testing.T) {
	spin.Check(t, "swap.pml", "NO_GRACE", "SWAP_LATE", "NO_AWAIT", "AWAIT_FIRST", "PLAIN_END")
}

// TestSwapWeak: on processors that let stores overtake each other.
func TestSwapWeak(t *testing.T) { spin.Holds(t, "swap.pml", "WEAK") }

func TestSRCU(t *testing.T) { spin.Check(t, "srcu.pml", "NO_GRACE", "NO_BUSY", "ONE_FLIP") }

func TestCovers(t *testing.T) { spin.Covers(t, "..", "srcu.pml") }
