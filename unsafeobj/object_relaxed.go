//go:build !race

package unsafeobj

// begin writes the header of a new leaf: one store, which the count of leaves sees done
// or not. The race detector cannot know that, so race builds make it atomic; and so with
// bury.
func (h *header) begin(v header) { *h = v }

// bury marks as dead what nobody has a reference to any more.
func (h *header) bury() { h.refs = 0 }
