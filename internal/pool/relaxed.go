//go:build !race

package pool

// load and store access a field that its owner writes and that statistics read
// from elsewhere. An aligned 32-bit access is never torn; the race detector
// cannot know, so race builds make it atomic.
func load(p *uint32) uint32     { return *p }
func store(p *uint32, v uint32) { *p = v }

func load64(p *uint64) uint64     { return *p }
func store64(p *uint64, v uint64) { *p = v }

func loadPtr(p *uintptr) uintptr     { return *p }
func storePtr(p *uintptr, v uintptr) { *p = v }

// freed tells the race detector, where there is one, that block i is freed.
func (h *Header) freed(uint32) {}
