// Package shard is the private heap of a P or of a Heap: for each size class, three
// magazines of free blocks (Bonwick and Adams, "Magazines and Vmem", 2001).
//
//	loaded     malloc pops here, and free pushes here what is at home in this shard
//	spare      full or partly full; it changes places with loaded
//	outgoing   blocks of the allocator whose home is elsewhere, on their way to their pools
//
// A magazine is an array of addresses of sealed blocks, a stack that grows upwards. The place
// below its first holds the address of a word that bears no seal, so malloc knows that it is
// empty by what it pops. The arrays of
// a class are one block of the metadata allocator, made when the class is first used, and
// given back when it is idle.
//
// # Who may touch it
//
//	whoever is in a section of the shard (pin.Record): fast paths, and the beginning and end of
//	slow paths, which take addresses out or put them in, and do their work outside
//	whoever has claimed it: trim, janitor, check, close, release
//
// A claimant sets a bit of Mode, passes a barrier, and waits until the section that was
// under way is over. A section that finds the bit leaves the magazines alone: its call goes on
// without them. So nobody waits for anybody.
//
//	claim        set by                                  then
//	free         -                                       sections use the magazines
//	claimed      the claimant, by compare-and-swap       they are the claimant's
//	released     Release of the Heap beside a claimant   the claimant frees the shard
//	closed       Close                                   Release frees the shard
package shard

import (
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/race"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// The bits of a shard's mode. Fast paths know the mode 0 only.
const (
	Claimed  = 1 << (modeShift + iota) // the magazines are a claimant's
	Closed                             // the allocator's life is over
	Canaries                           // blocks have tails
	Wipes                              // blocks are cleared when they are freed

	modeShift = 48
)

// What a shard's claim may be.
const (
	Free = iota
	Taken
	Released
	Dead
)

// Shard is off the Go heap. The zero Shard has nothing.
type Shard struct {
	pin.Record               // of a Heap's sections; those of a P are counted in the P's own
	Claim      atomic.Uint32 // who may have the magazines
	State      atomic.Uint64 // mode, and life<<24 | id, what headers.Word.Key says of pools at home
	none       uintptr       // the place that a class without magazines pops from
	Steps      uint32        // slow steps, for the rotor
	Position   int32         // in the allocator's list of shards
	Slot       int32         // of the P, or -1
	Extra      int32         // bytes by which magazines have grown
	Late       bool          // the section is still to be over that was under way at a grace period
	Random     uint64        // state of the shuffles
	classes    [sizeclass.Count]Class
	Seen       [sizeclass.Count]uintptr // what the janitor saw of each class
}

// Class is what a shard has of a size class.
type Class struct {
	Top  uintptr // place of the block that is popped next, or the one below the first
	End  uintptr // last place of loaded
	Out  uintptr // place of the last block of outgoing
	Mags uintptr // address of the Magazines, or 0
}

// Magazines describes the arrays of a class, which follow it.
type Magazines struct {
	Bottom   uintptr // of loaded: the place below its first
	Spare    uintptr // the same of the spare
	NSpare   uint32  // blocks in the spare
	Cap      uint32  // places of loaded, and of the spare
	OutFirst uintptr // the place below the first of outgoing
	OutEnd   uintptr // last place of outgoing
	Refills  uint32  // from pools since the arrays have grown
	Idle     uint32  // visits of the rotor since something has moved
	Moved    uintptr // what the rotor saw
}

const place = unsafe.Sizeof(uintptr(0))

// Init makes s, whose memory is zero, an empty shard.
func (s *Shard) Init(life, id uint32, slot int32, mode, random uint64) {
	s.none = bottom
	s.Slot = slot
	s.Random = random | 1
	for c := range s.classes {
		s.clear(&s.classes[c])
	}
	s.State.Store(mode | uint64(life)<<24 | uint64(id))
}

// ID returns the shard's id.
func (s *Shard) ID() uint32 { return uint32(s.State.Load()) & (1<<24 - 1) }

// Life returns the id of the shard's life.
func (s *Shard) Life() uint32 { return uint32(s.State.Load()>>24) & (1<<24 - 1) }

// Canaries reports whether blocks have tails.
func (s *Shard) Canaries() bool { return s.State.Load()&Canaries != 0 }

// Wipes reports whether blocks are cleared when they are freed.
func (s *Shard) Wipes() bool { return s.State.Load()&Wipes != 0 }

// Home reports whether the shard is the home of a pool with that word, in any mode.
func (s *Shard) Home(w headers.Word) bool { return w.Key() == s.State.Load()&(1<<modeShift-1) }

// clear makes c a class without magazines.
func (s *Shard) clear(c *Class) {
	none := uintptr(unsafe.Pointer(&s.none))
	*c = Class{none, none, none, 0}
}

// Of returns what the shard has of class c, which must be below sizeclass.Count.
func (s *Shard) Of(c uint8) *Class {
	return (*Class)(unsafe.Add(unsafe.Pointer(&s.classes), uintptr(c)*unsafe.Sizeof(Class{})))
}

// OfPool returns the same of the class in a pool's word.
func (s *Shard) OfPool(w headers.Word) *Class {
	return (*Class)(unsafe.Add(unsafe.Pointer(&s.classes), uintptr(w>>(8-classLog))&(0xff<<classLog)))
}

const classLog = 4 + uint(^uintptr(0)>>63) // log2 of the bytes of a Class

var _ [1 << classLog]byte = [unsafe.Sizeof(Class{})]byte{}

func at(p uintptr) *uintptr { return (*uintptr)(addr.Pointer(p)) }

// bottom is what stands in the place below the first of a magazine: the address of a word that
// bears no seal, so malloc finds with one comparison that there is no block, or no sound one.
var (
	unsealed uint64
	bottom   = uintptr(unsafe.Pointer(&unsealed))
)

// Plain reports whether the section may use the magazines in the one way that fast paths know.
// It is asked before they are looked at: a claimant may have drained them meanwhile, and be gone.
func (s *Shard) Plain() bool { return s.State.Load()>>modeShift == 0 }

// Plainly reports whether that is so, and the shard is the home of a pool with that word.
func (s *Shard) Plainly(w headers.Word) bool { return uint64(w)>>16 == s.State.Load() }

// Peek returns the block that is next in loaded, sealed if there is one. In a section.
func (m *Class) Peek() unsafe.Pointer { return addr.Pointer(*(*uintptr)(addr.Pointer(m.Top))) }

// Pop takes p, which Peek has returned, and which is sealed. In a section.
func (m *Class) Pop(p unsafe.Pointer) {
	m.Top -= place
	pool.UnsealAt(p)
	if race.Enabled {
		pool.Taken(uintptr(p))
	}
}

// Room returns the place where a block may be pushed on loaded, or 0. In a section.
func (m *Class) Room() uintptr {
	if m.Top != m.End {
		return m.Top + place
	}
	return 0
}

// Push pushes the live block p on loaded, at the place that Room has returned. In a section.
func (m *Class) Push(p unsafe.Pointer, at uintptr) {
	if race.Enabled {
		pool.Freed(uintptr(p))
	}
	pool.SealAt(p)
	*(*uintptr)(addr.Pointer(at)) = uintptr(p)
	m.Top = at
}

// PushOut pushes p, which is sealed, on outgoing, and reports whether it could. In a section.
func (m *Class) PushOut(p uintptr) bool {
	if !m.RoomOut() {
		return false
	}
	m.Out += place
	*at(m.Out) = p
	return true
}

// RoomOut reports whether a block may be pushed on outgoing. In a section.
func (m *Class) RoomOut() bool { return m.Mags != 0 && m.Out != m.Magazines().OutEnd }

// Magazines returns the description of the class's arrays. There must be some.
func (m *Class) Magazines() *Magazines { return (*Magazines)(addr.Pointer(m.Mags)) }

// Len returns the number of blocks in loaded.
func (m *Class) Len() int {
	if m.Mags == 0 {
		return 0
	}
	return int(m.Top-m.Magazines().Bottom) / int(place)
}

// Blocks returns the number of blocks in all three magazines.
func (m *Class) Blocks() int {
	if m.Mags == 0 {
		return 0
	}
	g := m.Magazines()
	return m.Len() + int(g.NSpare) + int(m.Out-g.OutFirst)/int(place)
}

// Seem is Blocks for whoever has neither a section nor a claim: exact while nothing moves, else
// what was seen, or 0. The shard and the arrays of its classes are to stay mapped meanwhile.
//
//go:norace
func (m *Class) Seem() int {
	mags := m.Mags // once: it may go meanwhile
	if mags == 0 {
		return 0
	}
	g := (*Magazines)(addr.Pointer(mags))
	in, spare, out := (m.Top-g.Bottom)/place, uintptr(g.NSpare), (m.Out-g.OutFirst)/place
	if in > mostBlocks || spare > mostBlocks || out > outBlocks {
		return 0 // of two moments
	}
	return int(in + spare + out)
}

// Bounds of the magazines, in blocks and bytes of blocks.
const (
	startBlocks, startBytes = 64, 16 << 10
	mostBlocks, mostBytes   = 1024, 64 << 10
	outBlocks, outBytes     = 32, 4 << 10
	// ExtraBytes bounds what the magazines of a shard may grow by, in bytes of blocks.
	ExtraBytes = 1 << 20
)

// caps has the places of magazines, by class; more than there are, so that no uint8 is out of
// range in a section.
var caps = func() (all [256]struct{ start, most, out uint16 }) {
	for c := range sizeclass.Count {
		size := sizeclass.Size(uint8(c))
		start := max(min(startBlocks, startBytes/size), 2)
		all[c].start = uint16(start)
		all[c].most = uint16(max(min(mostBlocks, mostBytes/size), start))
		all[c].out = uint16(max(min(outBlocks, outBytes/size), 1))
	}
	return all
}()

// StartCap returns the places of a magazine of class c at first.
func StartCap(c uint8) int { return int(caps[c].start) }

// MostCap returns the most places of a magazine of class c.
func MostCap(c uint8) int { return int(caps[c].most) }

func outCap(c uint8) int { return int(caps[c].out) }

// ArrayBytes returns the bytes that the magazines of class c take with room for n blocks.
func ArrayBytes(c uint8, n int) int {
	return int(unsafe.Sizeof(Magazines{})) + (2*(n+1)+outCap(c)+1)*int(place)
}

// Install gives the class magazines of n places, in memory of ArrayBytes at p, which need
// not be zero. What was in the old ones is in the new ones, which have room for it; it
// returns where those were, or 0. In a section, or claimed.
func (s *Shard) Install(c uint8, p uintptr, n int) (old uintptr) {
	m := s.Of(c)
	g := (*Magazines)(addr.Pointer(p))
	*g = Magazines{}
	g.Cap = uint32(n)
	g.Bottom = p + unsafe.Sizeof(Magazines{})
	g.Spare = g.Bottom + uintptr(n+1)*place
	g.OutFirst = g.Spare + uintptr(n+1)*place
	g.OutEnd = g.OutFirst + uintptr(outCap(c))*place
	*at(g.Bottom), *at(g.Spare), *at(g.OutFirst) = bottom, bottom, bottom
	top, out := g.Bottom, g.OutFirst
	if old = m.Mags; old != 0 {
		o := m.Magazines()
		top += fill(g.Bottom, o.Bottom, int(m.Top-o.Bottom)/int(place))
		fill(g.Spare, o.Spare, int(o.NSpare))
		out += fill(g.OutFirst, o.OutFirst, int(m.Out-o.OutFirst)/int(place))
		g.NSpare = o.NSpare
	}
	*m = Class{top, g.Bottom + uintptr(n)*place, out, p}
	return old
}

// fill copies n addresses to the places after to from those after from, and returns
// their bytes.
func fill(to, from uintptr, n int) uintptr {
	for i := 1; i <= n; i++ {
		*at(to + uintptr(i)*place) = *at(from + uintptr(i)*place)
	}
	return uintptr(n) * place
}

// Remove takes the magazines, which are empty, away from the class, and returns where
// they were. In a section, or claimed.
func (s *Shard) Remove(c uint8) (old uintptr) {
	m := s.Of(c)
	old = m.Mags
	if old != 0 {
		s.Extra -= int32((int(m.Magazines().Cap) - StartCap(c)) * sizeclass.Size(c) * 2)
	}
	s.clear(m)
	return old
}

// Swap makes the spare loaded, if loaded is empty and the spare is not, and reports whether.
func (m *Class) Swap() bool {
	if m.Mags == 0 {
		return false
	}
	g := m.Magazines()
	if g.NSpare == 0 || m.Top != g.Bottom {
		return false
	}
	g.Bottom, g.Spare = g.Spare, g.Bottom
	m.Top = g.Bottom + uintptr(g.NSpare)*place
	m.End = g.Bottom + uintptr(g.Cap)*place
	g.NSpare = 0
	return true
}

// Flush makes room in loaded, which is full: it moves blocks of the spare to b, as many as
// b has room for, and, when the spare is empty, makes loaded the spare. It reports whether the
// spare was full.
func (m *Class) Flush(b *pool.Hand) (full bool) {
	g := m.Magazines()
	full = g.NSpare == g.Cap
	for ; g.NSpare > 0 && b.N < pool.Most; g.NSpare-- {
		b.Add(*at(g.Spare + uintptr(g.NSpare)*place))
	}
	if g.NSpare == 0 {
		g.NSpare = uint32(m.Top-g.Bottom) / uint32(place)
		g.Bottom, g.Spare = g.Spare, g.Bottom
		m.Top, m.End = g.Bottom, g.Bottom+uintptr(g.Cap)*place
	}
	return full
}

// TakeOut moves all of outgoing to b, as far as b has room.
func (m *Class) TakeOut(b *pool.Hand) {
	if m.Mags == 0 {
		return
	}
	for first := m.Magazines().OutFirst; m.Out > first && b.N < pool.Most; m.Out -= place {
		b.Add(*at(m.Out))
	}
}

// TakeAny moves blocks of all three magazines to b, as far as b has room.
func (m *Class) TakeAny(b *pool.Hand) {
	if m.Mags == 0 {
		return
	}
	m.TakeOut(b)
	g := m.Magazines()
	for ; g.NSpare > 0 && b.N < pool.Most; g.NSpare-- {
		b.Add(*at(g.Spare + uintptr(g.NSpare)*place))
	}
	for ; m.Top > g.Bottom && b.N < pool.Most; m.Top -= place {
		b.Add(*at(m.Top))
	}
}

// Put moves the blocks of b to loaded, the last first, so that the first is on top, but for
// the first keep of them and those for which there is no room: these stay in b.
func (m *Class) Put(b *pool.Hand, keep int) {
	room := int(m.End-m.Top) / int(place)
	n := min(room, b.N-keep)
	for i := keep + n - 1; i >= keep; i-- {
		m.Top += place
		*at(m.Top) = b.P[uint(i)%pool.Most]
	}
	b.N -= max(n, 0)
	for i := keep; i < b.N; i++ {
		b.P[uint(i)%pool.Most] = b.P[uint(i+n)%pool.Most]
	}
}

// visits of the rotor in a row that see nothing move make a class idle.
const visits = 8

// Rotate looks at one class after the other, one at each slow step but that which is at work.
// If that class was idle it moves blocks of its magazines to b, until there is none left: the
// magazines are removed then and returned as old, to be freed. In a section.
func (s *Shard) Rotate(atWork uint8, b *pool.Hand) (c uint8, old uintptr) {
	for range 8 { // most have no magazines
		s.Steps++
		c = uint8(s.Steps % sizeclass.Count)
		m := s.Of(c)
		if m.Mags == 0 || c == atWork {
			continue
		}
		g := m.Magazines()
		now := m.Top ^ m.Out<<16 ^ uintptr(g.NSpare)
		if now != g.Moved {
			g.Moved, g.Idle = now, 0
			return c, 0
		}
		if g.Idle++; g.Idle < visits {
			return c, 0
		}
		m.TakeAny(b)
		if m.Blocks() == 0 {
			return c, s.Remove(c)
		}
		s.Steps-- // again at the next step
		g.Moved = m.Top ^ m.Out<<16 ^ uintptr(g.NSpare)
		g.Idle = visits
		return c, 0
	}
	return c, 0
}

// Shuffle puts the blocks of b in a random order.
func (s *Shard) Shuffle(b *pool.Hand) {
	for i := b.N - 1; i > 0; i-- {
		x := s.Random // xorshift64: Marsaglia, "Xorshift RNGs", 2003
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		s.Random = x
		j := int(x>>33) % (i + 1)
		b.P[uint(i)%pool.Most], b.P[uint(j)%pool.Most] = b.P[uint(j)%pool.Most], b.P[uint(i)%pool.Most]
	}
}

// Each calls f for each block in the magazines of class c. Claimed.
func (s *Shard) Each(c uint8, f func(p uintptr)) {
	m := s.Of(c)
	if m.Mags == 0 {
		return
	}
	g := m.Magazines()
	for p := g.Bottom + place; p <= m.Top; p += place {
		f(*at(p))
	}
	for i := range uintptr(g.NSpare) {
		f(*at(g.Spare + (i+1)*place))
	}
	for p := g.OutFirst + place; p <= m.Out; p += place {
		f(*at(p))
	}
}

// Drop takes the block on top of loaded, which is not empty, whatever was done to it.
func (m *Class) Drop() uintptr {
	p := *at(m.Top)
	m.Top -= place
	return p
}

// Cap returns the places of loaded, or 0 if there are no magazines.
func (m *Class) Cap() int {
	if m.Mags == 0 {
		return 0
	}
	return int(m.Magazines().Cap)
}

// Look returns a number that changes when something moves in the class, or 0 if it has no
// magazines. Any goroutine may call it that knows that the shard stays.
//
//go:norace
func (m *Class) Look() uintptr {
	if m.Mags == 0 {
		return 0
	}
	return m.Top ^ m.Out<<16 ^ m.End<<(4*place) | 1
}
