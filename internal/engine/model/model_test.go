// Package model_test checks the models of how shards are claimed, of Close, of the janitor,
// and of requests that find no room.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestClaim(t *testing.T) {
	spin.Check(t, "claim.pml",
		"NO_BARRIER", "BARRIER_LATE", "NO_WAIT", "MODE_EARLY", "MODE_LATE", "MODE_KEPT",
		"RELEASE_BESIDE", "CLAIM_UNLISTED", "UNCLAIM_EARLY", "PLAIN_END")
}

// TestClaimWeak: on processors that let stores overtake each other.
func TestClaimWeak(t *testing.T) { spin.Holds(t, "claim.pml", "WEAK") }

func TestClose(t *testing.T) {
	spin.Check(t, "close.pml",
		"COUNT_LATE", "OTHER_COUNTER", "NO_SUM", "NO_GRACE", "NO_AWAIT", "NO_MODE", "VIEW_LATE", "POP_BLIND",
		"UNMAP_EARLY", "CLEAR_LATE", "NEW_UNCHECKED", "FORGET_TAKEN", "RELEASE_BLIND")
}

func TestJanitor(t *testing.T) {
	spin.Check(t, "janitor.pml", "DISARM_LATE", "NO_AGAIN", "NO_TIMER", "SET_KEPT")
}

func TestReclaim(t *testing.T) {
	spin.Check(t, "reclaim.pml", "RESET_LATE", "STIR_EARLY", "GROW_QUIET", "LEFT_QUIET", "NO_SEEN")
}
