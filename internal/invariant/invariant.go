// Package invariant holds the switch for checks that cost too much for every build.
//
// Built with the tag "invariants", [Enabled] is true: whoever gets a pool in hand or lets it
// go checks its header, an arena checks that no unit is given back twice, a Space checks its
// objects after each full collection, and tests may refuse it memory. Without the tag the constant is false, and the compiler deletes all of
// that. What can be looked for at any time, without the tag, is in Allocator.Check.
package invariant

// Check panics with msg unless ok. Guard calls with [Enabled] where computing
// ok has a cost:
//
//	if invariant.Enabled { invariant.Check(!free.has(i), "arena: unit freed twice") }
func Check(ok bool, msg string) {
	if Enabled && !ok {
		panic("invariant violated: " + msg)
	}
}
