package pymalloc

import (
	"fmt"
	"time"

	"github.com/pyarena/pyarena/internal/engine"
	"github.com/pyarena/pyarena/osmem"
)

// Options shape an allocator. The zero value is what most programs want.
type Options struct {
	// ArenaBytes is the size of an arena, the unit in which memory comes from
	// the system: a power of two from 256 KiB to 64 MiB. 0 means 1 MiB.
	ArenaBytes int
	// LimitBytes is the most memory, in bytes, that is mapped for blocks at any
	// time; requests beyond it fail with ErrLimit. 0 means no limit. It must not
	// be less than ArenaBytes.
	LimitBytes int
	// RetainBytes is the most memory, in bytes, that stays mapped while it is
	// free, for RetainDelay. 0 means 64 MiB, a negative value none.
	RetainBytes int
	// RetainDelay is how long free memory stays mapped, between one and two
	// times this. 0 means one second. It must not be negative. Memory is given
	// back at most once a second.
	RetainDelay time.Duration
	// KeepAddresses says whether memory that is given back keeps its addresses,
	// inaccessible, for later arenas and huge mappings of the process.
	KeepAddresses KeepAddresses
	// Hardened makes misuse show more often, and harder to exploit: fresh blocks are
	// handed out in random order rather than the lowest first; a free block whose
	// first eight bytes were written to is mostly found when it is to be handed out
	// next, with ErrCorrupted (SECURITY.md says when it is not); an inaccessible page ends every arena and every block of more
	// than half an arena. An arena takes two of the process's mappings then (see
	// vm.max_map_count on Linux). What it costs stands in the package documentation.
	Hardened bool
	// Canaries puts a secret word behind each block up to half an arena, and looks at it
	// when the block is freed: a write of one byte beyond the usable size is found, with
	// ErrOverrun. Blocks of each size have eight usable bytes less. It implies Hardened.
	Canaries bool
	// WipeOnFree clears blocks when they are freed, so that what they held is
	// not to be read any more, by a later owner or in a core dump: blocks up to half an
	// arena are overwritten with zeros, the pages of larger ones dropped. Arenas
	// are left out of core dumps where the system can (Linux, FreeBSD,
	// DragonFly). Close drops all pages without overwriting them.
	WipeOnFree bool
}

// KeepAddresses is a choice of what happens to the addresses of memory that is
// given back. A stale pointer to an unmapped address is harmless to the
// collector only while the Go heap does not grow there.
type KeepAddresses uint8

const (
	// KeepWhereNeeded keeps addresses where the Go heap may grow into them:
	// everywhere but on 64-bit Linux with the usual layout of addresses (see
	// osmem.KeepsAddresses).
	KeepWhereNeeded KeepAddresses = iota
	// KeepAlways keeps them.
	KeepAlways
	// KeepNever gives them back. With the Go heap as backing it is KeepAlways.
	KeepNever
)

const defaultRetainBytes = 64 << 20

// config validates the options.
func (o Options) config() (c engine.Config, err error) {
	bad := func(option string, value any, want string) error {
		return fmt.Errorf("pymalloc: NewAllocator: %w: %s is %v, it must be %s", ErrOptions, option, value, want)
	}
	arenaBytes := o.ArenaBytes
	if arenaBytes == 0 {
		arenaBytes = engine.DefaultArenaBytes
	}
	if c.Geometry, err = engine.NewGeometry(arenaBytes); err != nil {
		return c, bad("ArenaBytes", o.ArenaBytes, fmt.Sprintf("0 or a power of two from %d to %d", engine.MinArenaBytes, engine.MaxArenaBytes))
	}
	if o.Hardened {
		c.Geometry = c.Geometry.Harden(o.Canaries)
	}
	switch {
	case o.LimitBytes < 0 || o.LimitBytes > 0 && o.LimitBytes < arenaBytes:
		return c, bad("LimitBytes", o.LimitBytes, fmt.Sprintf("0 or at least ArenaBytes (%d)", arenaBytes))
	case o.RetainDelay < 0:
		return c, bad("RetainDelay", o.RetainDelay, "0 or positive")
	case o.KeepAddresses > KeepNever:
		return c, bad("KeepAddresses", o.KeepAddresses, "KeepWhereNeeded, KeepAlways or KeepNever")
	}
	c.LimitBytes = uint64(o.LimitBytes)
	c.RetainBytes = uint64(max(o.RetainBytes, 0))
	if o.RetainBytes == 0 {
		c.RetainBytes = defaultRetainBytes
	}
	c.RetainDelay = o.RetainDelay
	if c.RetainDelay == 0 {
		c.RetainDelay = time.Second
	}
	c.Keep = o.KeepAddresses == KeepAlways || o.KeepAddresses == KeepWhereNeeded && osmem.KeepsAddresses()
	c.Wipe = o.WipeOnFree
	return c, nil
}
