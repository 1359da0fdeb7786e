//go:build invariants

package invariant

// Enabled reports whether the expensive checks are compiled in.
const Enabled = true
