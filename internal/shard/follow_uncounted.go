//go:build (!linux || !(amd64 || race)) && !pymalloc_nolinkname

package shard

// Where shards stay where they are, nobody counts sections.
func (slot *Slot) begin() {}
func (slot *Slot) end()   {}
