// Package model_test checks the model of how an arena is given back.
package model_test

import (
	"testing"

	"github.com/pyarena/pyarena/internal/spin"
)

func TestBudget(t *testing.T) { spin.Check(t, "budget.pml", "TAKE_BLIND", "HIGH_BLIND") }

func TestCovers(t *testing.T) { spin.Covers(t, "..", "release.pml", "budget.pml") }

func TestRelease(t *testing.T) {
	spin.Check(t, "release.pml", "NO_GRACE", "NO_AWAIT", "LOOKUP_FIRST", "KEEP_LISTED", "CLEAR_LATE", "RETRY_SHARED")
}
