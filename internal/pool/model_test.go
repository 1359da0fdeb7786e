package pool_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// model is what one pool must be like.
type model struct {
	testing.TB
	h      *pool.Header
	start  unsafe.Pointer
	owner  uint32
	post   uint32
	state  []byte // of each block: untouched 'u', allocated 'a', free 'f', remote 'r', chain 'c'
	counts map[byte]int
	clean  bool
}

func (m *model) set(i int, state byte) {
	m.counts[m.state[i]]--
	m.counts[state]++
	m.state[i] = state
}

func (m *model) block(i int) unsafe.Pointer {
	return unsafe.Add(m.start, i*m.h.Size())
}

// all makes every block that is in one state another's.
func (m *model) all(from, to byte) {
	for i, s := range m.state {
		if s == from {
			m.set(i, to)
		}
	}
}

// pick returns a block in the state, or -1.
func (m *model) pick(rng *rand.Rand, state byte) int {
	if m.counts[state] == 0 {
		return -1
	}
	i := rng.IntN(len(m.state))
	for m.state[i] != state {
		i = (i + 1) % len(m.state)
	}
	return i
}

// pop hands a block out, and looks that it is one to hand out, and zero if it is
// said to be.
func (m *model) pop() {
	full := m.counts['u']+m.counts['f'] == 0
	p, zero := m.h.PopZero()
	if p == nil {
		available := m.counts['u'] + m.counts['f'] + m.counts['c'] + m.counts['r']
		ok, broken := m.h.Refill(0)
		if broken != nil || ok != (available > 0) {
			m.Fatalf("Refill() = %v, %p with %d blocks to be had", ok, broken, available)
		}
		if !ok {
			return
		}
		m.refilled(full)
		if p, zero = m.h.PopZero(); p == nil {
			m.Fatal("no block after Refill")
		}
	}
	i := m.h.Index(p)
	if int(i) >= len(m.state) || p != m.block(int(i)) || m.state[i] != 'u' && m.state[i] != 'f' {
		m.Fatalf("block %d at %p was handed out, in state %q", i, p, m.state[min(int(i), len(m.state)-1)])
	}
	if zero != (m.clean && m.state[i] == 'u') {
		m.Fatalf("block %d in state %q, zero: %v", i, m.state[i], zero)
	}
	b := unsafe.Slice((*byte)(p), m.h.Size())
	if zero && bytes.Count(b, []byte{0}) != len(b) {
		m.Fatalf("block %d is not zero", i)
	}
	pool.Unseal(p)
	copy(b, bytes.Repeat([]byte{byte(i)}, len(b)))
	m.set(int(i), 'a')
}

// refilled follows what Refill did to a pool, which had no block in its bitmap if
// full: some of the chain is free.
func (m *model) refilled(full bool) {
	if !full {
		return
	}
	if m.counts['c'] == 0 {
		m.all('r', 'c')
	}
	before := m.counts['c']
	for i, s := range m.state {
		if s == 'c' && !m.h.IsInUse(uint32(i)) {
			m.set(i, 'f')
		}
	}
	if freed := before - m.counts['c']; freed == 0 || freed > 64 {
		m.Fatalf("%d of a chain of %d were freed at once", freed, before)
	}
}

func (m *model) free(i int) {
	m.checkBytes(i)
	if m.h.Push(uint32(i)) != (m.h.Live() == m.h.Trip()) {
		m.Fatal("tripped wrongly")
	}
	m.set(i, 'f')
}

func (m *model) checkBytes(i int) {
	b := unsafe.Slice((*byte)(m.block(i)), m.h.Size())
	if bytes.Count(b, []byte{byte(i)}) != len(b) {
		m.Fatalf("block %d was written to while in use", i)
	}
}

// freeRemote frees block i as another shard.
func (m *model) freeRemote(i int, mayAdopt bool) {
	m.checkBytes(i)
	want := pool.Pushed
	switch {
	case m.owner == pool.Abandoned && mayAdopt:
		want = pool.Adopted
	case m.owner == pool.Abandoned:
		want = pool.Unclaimed
	case m.post == pool.Want:
		want = pool.Post
	}
	did, number, owner := m.h.PushRemote(m.block(i), other, mayAdopt, false)
	if did != want || number != m.h.Number() || owner != m.owner {
		m.Fatalf("outcome %d, number %d, owner %d; want %d, %d, %d", did, number, owner, want, m.h.Number(), m.owner)
	}
	m.set(i, 'r')
	switch want {
	case pool.Adopted:
		m.owner = other
		m.all('r', 'c')
	case pool.Unclaimed:
		m.owner = pool.Shared
	case pool.Post:
		m.post = pool.Posted
	}
}

// step does one operation, if it is one for the pool's state.
func (m *model) step(rng *rand.Rand) {
	h, owned := m.h, m.owner >= pool.FirstShard
	switch op := rng.IntN(40); {
	case m.owner == pool.Free:
		h.Own(me)
		m.owner = me
	case op < 16 && owned:
		for range 1 + rng.IntN(8) {
			m.pop()
		}
	case op < 22 && owned && m.counts['a'] > 0:
		m.free(m.pick(rng, 'a'))
	case op < 30 && m.owner != other && m.counts['a'] > 0:
		m.freeRemote(m.pick(rng, 'a'), op != 22)
	case op == 30 && owned && m.counts['c'] == 0: // the caller looks that the chain is empty
		if h.Collect() != (m.counts['r'] > 0) {
			m.Fatal("collected wrongly")
		}
		m.all('r', 'c')
	case op < 33 && owned && !h.HasBlock():
		if h.Fill() != (m.counts['r'] == 0) {
			m.Fatal("filled wrongly")
		}
		if m.counts['r'] == 0 && m.post == pool.Quiet {
			m.post = pool.Want
		}
	case op == 33 && m.post == pool.Posted:
		h.Unpost()
		m.post = pool.Quiet
	case op == 34 && owned:
		ok := m.post != pool.Posted
		if h.Share() != ok {
			m.Fatal("shared wrongly")
		}
		if ok {
			m.owner, m.post = pool.Shared, pool.Quiet
		}
	case op == 35 && owned && !h.HasBlock():
		ok := m.post != pool.Posted && m.counts['r'] == 0
		if h.Abandon() != ok {
			m.Fatal("abandoned wrongly")
		}
		if ok {
			m.owner, m.post = pool.Abandoned, pool.Quiet
		}
	case op < 38 && m.owner == pool.Shared:
		h.Take(me)
		m.owner = me
	case op == 38 && m.owner == other: // so that remote frees go on
		h.Share()
		m.owner, m.post = pool.Shared, pool.Quiet
	case op == 39 && owned:
		m.retire()
	}
}

func (m *model) retire() {
	ok := m.counts['a'] == 0 && m.post != pool.Posted
	if m.h.Retire(0) != ok {
		m.Fatalf("retired wrongly with %d in use, post %d", m.counts['a'], m.post)
	}
	if !ok {
		return
	}
	m.all('r', 'f')
	m.all('c', 'f')
	m.owner, m.post = pool.Free, pool.Quiet
}

func (m *model) check() {
	h, inUse := m.h, m.counts['a']
	wantWord(m, h, m.owner, m.post, uint32(m.counts['r']))
	wantCounts(m, h, inUse+m.counts['c']+m.counts['r'], inUse)
	if m.counts['u']+m.counts['f']+m.counts['a']+m.counts['c']+m.counts['r'] != int(h.Blocks()) {
		m.Fatalf("%v of %d blocks", m.counts, h.Blocks())
	}
	if m.owner >= pool.FirstShard {
		if quiet := m.counts['c']+m.counts['r'] == 0; h.IsQuiet(pool.OwnerWord(m.owner)) != quiet || h.IsQuiet(pool.OwnerWord(99)) {
			m.Fatalf("quiet wrongly: %v", m.counts)
		}
		if has := m.counts['u']+m.counts['f']+m.counts['c'] > 0; h.HasBlock() != has {
			m.Fatalf("HasBlock() = %v with %v", !has, m.counts)
		}
	}
	for i, s := range m.state {
		want := pool.Freed
		switch s {
		case 'a':
			want = pool.InUse
		case 'u':
			want = pool.Foreign
		}
		wantState(m, h, m.block(i), want, string(s))
	}
}

// TestModel does random operations of owner, freers and takers in turn, and looks
// at every block after each.
func TestModel(t *testing.T) {
	steps := 2000
	if testing.Short() {
		steps = 500
	}
	rng := rand.New(rand.NewPCG(6, 7))
	retired, adopted := 0, 0
	for _, size := range []int{16, 48, 64, 256, 512, 1024, 1152, 8 << 10, 32 << 10} {
		h := newPool(t, size)
		m := &model{
			TB: t, h: h, start: h.Start(), owner: me, clean: true,
			state: make([]byte, h.Blocks()), counts: map[byte]int{0: int(h.Blocks())},
		}
		m.all(0, 'u')
		for n := range steps {
			before := m.owner
			if n%200 > 150 { // a time in which blocks are freed, so that pools empty
				if i := m.pick(rng, 'a'); i >= 0 && m.owner != other {
					m.freeRemote(i, true)
				} else if m.owner == me || m.owner == other {
					m.retire()
				}
			} else {
				m.step(rng)
			}
			m.check()
			if m.owner != before && m.owner == pool.Free {
				retired++
			}
			if m.owner != before && before == pool.Abandoned {
				adopted++
			}
		}
	}
	if retired == 0 || adopted == 0 {
		t.Errorf("%d retired, %d adopted: the test does not test", retired, adopted)
	}
	t.Logf("%d retired, %d adopted", retired, adopted)
}

// TestModelFormat: a pool of one class after the other, with all that happens to it.
func TestModelFormat(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	f := newFake(t, 16<<10, 63)
	h := f.place(f.headerUnits, 1, true)
	for range 200 {
		c := sizeclass.Of(1 + rng.IntN(2000)) // pools of one unit
		h.Format(c, &f.shapes[c])
		h.Own(me)
		var held []unsafe.Pointer
		for range rng.IntN(int(h.Blocks()) + 1) {
			held = append(held, alloc(t, h))
		}
		wantCounts(t, h, len(held), len(held))
		rng.Shuffle(len(held), func(a, b int) { held[a], held[b] = held[b], held[a] })
		for i, p := range held {
			wantState(t, h, p, pool.InUse, "held")
			if i%3 == 0 {
				push(t, h, p, pool.Pushed)
			} else {
				h.Push(h.Index(p))
			}
		}
		if !h.Retire(0) {
			t.Fatal("not retired")
		}
	}
}
