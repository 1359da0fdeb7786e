//go:build !race

package shard

import "unsafe"

// load and store access a field that its shard's user writes and that the
// janitor reads from elsewhere; see package pool.
func load(p *uint32) uint32     { return *p }
func store(p *uint32, v uint32) { *p = v }

// acquired and released tell the race detector, where there is one, that a
// shard's users take turns.
func acquired(unsafe.Pointer) {}
func released(unsafe.Pointer) {}
