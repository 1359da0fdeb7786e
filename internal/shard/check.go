package shard

import (
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Check returns the first fault in the allocator's structure: of arenas, of
// shards, of pools that a shard owns or that are shared. It takes the shards
// away from their users and drains them, as Trim does, and gives nothing back
// to the system.
func (t *Table) Check() error {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if t.closed.Load() {
		return nil
	}
	v := &visit{t: t, check: true}
	v.swapOut(func(*Shard) bool { return true })
	round{v}.drain()
	if err := t.Arenas.Check(); v.err == nil {
		v.err = err
	}
	return v.err
}

// checkShard notes the first fault of a shard that was swapped out.
func (v *visit) checkShard(s *Shard) {
	if v.check && v.err == nil {
		if err := s.check(&v.t.Arenas.Geometry); err != nil {
			v.err = fmt.Errorf("shard %d: %w", s.id, err)
		}
	}
}

// checkPool notes the first fault of a shared pool in the hand.
func (v *visit) checkPool(h *pool.Header) {
	if v.check && v.err == nil {
		v.err = h.Check()
	}
}

// check returns the first fault of a shard that nobody uses.
func (s *Shard) check(g *arena.Geometry) error {
	if err := s.checkKept(g); err != nil {
		return err
	}
	s.empty(g)
	owned, listed := uint32(0), uint32(0)
	for h := s.owned; h != nil; h = h.OwnedNext {
		if owned++; owned > s.nowned {
			break
		}
		if h.Owner() != s.id {
			return fmt.Errorf("pool at %p is owner %d's", h.Start(), h.Owner())
		}
		if h.Listed() {
			listed++
		}
		if err := h.Check(); err != nil {
			return err
		}
	}
	if owned != s.nowned {
		return fmt.Errorf("its list of pools has %d or more, it counts %d", owned, s.nowned)
	}
	for c := range uint8(sizeclass.Count) {
		var prev *pool.Header
		for h := s.used[c]; h != &s.none; h = h.Next {
			if h.Class() != c || !h.Listed() || h.Prev != prev {
				return fmt.Errorf("used pools of %d bytes: the pool at %p is listed wrongly", sizeclass.Size(c), h.Start())
			}
			if listed--; listed > owned {
				return fmt.Errorf("used pools of %d bytes: a pool is not the shard's", sizeclass.Size(c))
			}
			prev = h
		}
	}
	if listed != 0 {
		return fmt.Errorf("%d of its pools say that they are listed, and are not", listed)
	}
	empty := uint32(0)
	for h := s.empties; h != nil && empty <= s.nempty; h = h.Next {
		if empty++; h.Owner() != pool.Free {
			return fmt.Errorf("empty pool at %p is owner %d's", h.Start(), h.Owner())
		}
	}
	if empty != s.nempty {
		return fmt.Errorf("%d empty pools or more, it counts %d", empty, s.nempty)
	}
	return nil
}

// checkKept returns the first fault of the blocks that the shard keeps at hand.
func (s *Shard) checkKept(g *arena.Geometry) error {
	wrong := func(p unsafe.Pointer, size int) error {
		return fmt.Errorf("block %p, at hand for mallocs of %d bytes, is none that the shard may have", p, size)
	}
	broken := func(p unsafe.Pointer, size int) error {
		return fmt.Errorf("block %p, of %d bytes, was written to after it was freed", p, size)
	}
	for c := range uint8(sizeclass.Count) {
		seen := map[unsafe.Pointer]bool{}
		var err error
		look := func(p unsafe.Pointer) {
			if h := g.PoolOf(p); h.Owner() != s.id || h.Class() != c || h.StateOf(p) != pool.Freed || seen[p] {
				err = wrong(p, sizeclass.Size(c))
			}
			seen[p] = true
		}
		s.Magazine(c).Blocks(func(p unsafe.Pointer) {
			if look(p); s.seals && !pool.HasOwnSeal(p) {
				err = broken(p, sizeclass.Size(c))
			}
		})
		if err != nil {
			return err
		}
	}
	if s.hot.class != noClass {
		p := s.HotBlock()
		if h := g.PoolOf(p); h.Owner() != s.id || uint32(h.Class()) != s.hot.class || !h.IsInUse(h.Index(p)) {
			return wrong(p, sizeclass.Size(uint8(s.hot.class)))
		}
		if s.seals && !pool.HasOwnSeal(p) {
			return broken(p, sizeclass.Size(uint8(s.hot.class)))
		}
	}
	return nil
}
