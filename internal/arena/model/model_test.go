// Package model_test checks the models of how an arena is given back, and of the limit.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestBudget(t *testing.T) { spin.Check(t, "budget.pml", "TAKE_BLIND", "HIGH_BLIND") }

func TestRelease(t *testing.T) {
	spin.Check(t, "release.pml",
		"NO_GRACE", "NO_BARRIER", "NO_WAIT", "LOOKUP_FIRST", "CLEAR_LATE", "WORD_LATE", "KEEP_LISTED", "RETRY_SHARED")
}
