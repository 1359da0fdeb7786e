// Package model_test checks the models of Close, of the janitor, of requests that
// find no room, and of shards that follow goroutines.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestClose(t *testing.T) {
	spin.Check(t, "close.pml",
		"NO_RECHECK", "INSTALL_UNCHECKED", "TAKE_UNCHECKED", "PUT_UNCHECKED", "NEWHEAP_UNCHECKED",
		"NO_GRACE", "NO_AWAIT", "N_LATE")
}

func TestJanitor(t *testing.T) { spin.Check(t, "janitor.pml", "DISARM_LATE", "NO_AGAIN") }

func TestReclaim(t *testing.T) { spin.Check(t, "reclaim.pml", "RESET_LATE", "STIR_EARLY", "NO_SEEN") }

// TestCovers: a heap's begin and end, Take and Exit are those of grace's models.
func TestCovers(t *testing.T) {
	spin.Covers(t, "..", "close.pml", "follow.pml", "janitor.pml", "reclaim.pml", "../../grace/model/swap.pml", "../../grace/model/srcu.pml")
}

func TestFollow(t *testing.T) {
	spin.Check(t, "follow.pml", "NO_BARRIER", "NO_CHECK", "ONE_CHECK", "DETACH_UNCHECKED", "NO_AWAIT")
}
