// Package model_test checks the model of Close.
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
