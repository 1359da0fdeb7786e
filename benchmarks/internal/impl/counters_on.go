//go:build memory.counters

package impl

const moderncCounts = true
