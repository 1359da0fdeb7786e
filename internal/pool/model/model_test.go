// Package model_test checks the models of the ownership word and of double frees.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestOwnership(t *testing.T) {
	spin.Check(t, "ownership.pml",
		"RETIRE_POSTED", "ABANDON_NONEMPTY", "ABANDON_STORE", "SHARE_POSTED", "FILL_BLIND",
		"POST_TWICE", "HAND_AS_ME", "STRANDED", "DRAIN_NO_WAIT", "DRAIN_NO_HOT",
		"LAST_UNCHAINED", "LAST_RETIRED")
}

func TestDouble(t *testing.T) {
	spin.Check(t, "double.pml",
		"NO_CLAIM", "LINK_STORED", "RETIRE_LENGTHS", "RETIRE_KEPT", "RETIRE_MAGAZINE",
		"HOT_UNCHAINED", "SET_UNCHAINED", "UNCHAIN_UNSEALED", "OUT_SEALED", "KEPT_FREED")
}

func TestCovers(t *testing.T) { spin.Covers(t, "..", "ownership.pml") }
