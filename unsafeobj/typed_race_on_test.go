//go:build race

package unsafeobj_test

// underRace: a bad pointer is examined in a header that its owner may be writing,
// which is harmless, and which the race detector reports.
const underRace = true
