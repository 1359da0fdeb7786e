package engine

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/race"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// What the public package needs of those below.
type (
	Outcome = pool.Outcome
	Error   = pool.Error
	Shard   = shard.Shard
	Header  = headers.Header
	Word    = headers.Word
)

// The outcomes.
const (
	OK      = pool.OK
	Double  = pool.Double
	NotOurs = pool.NotOurs
	Overrun = pool.Overrun
)

// Errors and bounds of those below.
var (
	ErrClosed   = arena.ErrClosed
	ErrLimit    = arena.ErrLimit
	ErrMappings = arena.ErrMappings
)

// Sizes of arenas, in bytes, and the number of size classes.
const (
	DefaultArenaBytes = arena.DefaultBytes
	MinArenaBytes     = arena.MinBytes
	MaxArenaBytes     = arena.MaxBytes
	Classes           = sizeclass.Count
)

// NewGeometry returns the geometry of arenas of the given size.
func NewGeometry(arenaBytes int) (arena.Geometry, error) { return arena.NewGeometry(arenaBytes) }

// KeptBytes returns the address space that is kept inaccessible for later arenas.
func KeptBytes() uint64 { return arena.KeptBytes() }

// ClassSize returns the size in bytes of the blocks of class c.
func ClassSize(c uint8) int { return sizeclass.Size(c) }

// AlignedClass returns the smallest class whose blocks hold size bytes and lie at multiples of
// align, a power of two. ok is false if there is none.
func AlignedClass(size, align int) (c uint8, ok bool) { return sizeclass.Aligned(size, align) }

// Used tells the race detector that a goroutine uses what is for one at a time.
func Used[T any](p *T) {
	if race.Enabled {
		race.Written(unsafe.Pointer(p), 1)
	}
}

// SmallMax is the largest size, in bytes, that has a size class.
const SmallMax = sizeclass.Max

// ClassOf returns the class of a request of size bytes, 1 … SmallMax.
func ClassOf(size int) uint8 { return sizeclass.Of(size) }

// Pin begins a section of a P, and Unpin ends it: see package pin.
func Pin() int { return pin.Enter() }

// Unpin ends the section that Pin began.
func Unpin(token int) { pin.Exit(token) }

// What fast paths do in a section. (A method is inlined into the importers of this package
// only if this package uses it.)

// Peek returns what is next in the class: a block, if it is sealed.
func Peek(m *shard.Class) unsafe.Pointer { return m.Peek() }

// Pop takes the block at p, which Peek has returned, and which is sealed.
func Pop(m *shard.Class, p unsafe.Pointer) { m.Pop(p) }

// Room returns where a block may be pushed, or 0.
func Room(m *shard.Class) uintptr { return m.Room() }

// Push pushes the live block at p, which is at home, where Room said.
func Push(m *shard.Class, p unsafe.Pointer, at uintptr) { m.Push(p, at) }

// Plain reports whether the section may use the magazines in the one way that fast paths know.
// It is asked before they are looked at: a claimant may have drained them meanwhile, and be
// gone.
func Plain(s *Shard) bool { return s.Plain() }

// Plainly reports whether that is so, and the shard is the home of a pool with that word.
func Plainly(s *Shard, w Word) bool { return s.Plainly(w) }

// ClassOfPool returns what the shard has of the class of a pool with that word.
func ClassOfPool(s *Shard, w Word) *shard.Class { return s.OfPool(w) }

// IsBlock reports whether a block begins at p, in the pool of h, that was ever handed out.
func IsBlock(h *Header, p uintptr) bool { return pool.IsBlock(h, p) }

// IsSealed reports whether the block at p is free.
func IsSealed(p unsafe.Pointer) bool { return pool.IsSealedAt(p) }

// Find returns the header that a free of p looks at first.
func Find(p uintptr) *Header { return headers.Find(p) }

// First returns the header of the pool that a further unit is part of.
func First(h *Header, w Word) *Header { return pool.First(h, w) }

// Inner is the kind of a further unit of a pool.
const Inner = headers.Inner
