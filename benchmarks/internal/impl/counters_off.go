//go:build !memory.counters

package impl

// moderncCounts tells whether modernc.org/memory keeps its counters.
const moderncCounts = false
