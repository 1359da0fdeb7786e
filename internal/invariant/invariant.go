// Package invariant holds the switch for the expensive checks.
//
// Built with the tag "invariants", [Enabled] is true and every structure
// checks its invariants at each transition; without it the constant is false
// and the compiler deletes the checks.
package invariant

// Check panics with msg unless ok. Guard calls with [Enabled] where computing
// ok has a cost:
//
//	if invariant.Enabled { invariant.Check(s.sorted(), "arena: bins out of order") }
func Check(ok bool, msg string) {
	if Enabled && !ok {
		panic("invariant violated: " + msg)
	}
}
