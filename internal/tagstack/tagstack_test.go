package tagstack

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/osmem"
)

// newLinks returns headers, which stand for pools, with the numbers 1 … nodes.
func newLinks(t *testing.T, nodes int) *links {
	t.Helper()
	p, err := osmem.MapAlignedReserved(1<<25, 1<<25)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = osmem.Release(p, 1<<25) })
	if nodes > 1<<25/headers.UnitBytes {
		t.Fatalf("%d nodes", nodes)
	}
	h, err := headers.Grow(uintptr(p), 1<<25)
	if err != nil {
		t.Fatal(err)
	}
	return &links{h.Number - 1}
}

// links are nodes with numbers that begin at 1 in the tests.
type links struct{ base uint32 }

func (l *links) of(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return n + l.base
}

func (l *links) back(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return n - l.base
}

func (l *links) Link(n, next uint32)               { Link(l.of(n), l.of(next)) }
func (l *links) push(s *Stack, first, last uint32) { s.Push(l.of(first), l.of(last)) }
func (l *links) pop(s *Stack) uint32               { return l.back(s.Pop()) }

// takeAll pops all.
func (l *links) takeAll(s *Stack) (nodes []uint32) {
	for n := l.pop(s); n != 0; n = l.pop(s) {
		nodes = append(nodes, n)
	}
	return nodes
}

// chain links the nodes in their order and returns the first and the last.
func chain(l *links, nodes []uint32) (first, last uint32) {
	for i, n := range nodes[1:] {
		l.Link(nodes[i], n)
	}
	return nodes[0], nodes[len(nodes)-1]
}

func TestZero(t *testing.T) {
	l := newLinks(t, 1)
	var s Stack
	if !s.Empty() || l.pop(&s) != 0 || !s.Empty() {
		t.Error("the zero stack is not empty")
	}
}

// TestModel does random operations on a few stacks and on slices beside them.
func TestModel(t *testing.T) {
	const nodes, stacks = 64, 3
	rng := rand.New(rand.NewPCG(3, 4))
	l := newLinks(t, nodes)
	var s [stacks]Stack
	var model [stacks][]uint32 // the top is last
	var hand []uint32
	for n := range uint32(nodes) {
		hand = append(hand, n+1)
	}
	for step := range 50_000 {
		i := rng.IntN(stacks)
		top := func() uint32 {
			if len(model[i]) == 0 {
				return 0
			}
			return model[i][len(model[i])-1]
		}
		switch op := rng.IntN(8); {
		case op < 4 && len(hand) > 0: // push a chain, of one node mostly
			n := 1
			if op == 0 {
				n += rng.IntN(len(hand))
			}
			rng.Shuffle(len(hand), func(a, b int) { hand[a], hand[b] = hand[b], hand[a] })
			part := hand[:n:n]
			hand = slices.Clone(hand[n:])
			first, last := chain(l, part)
			l.push(&s[i], first, last)
			slices.Reverse(part)
			model[i] = append(model[i], part...)
		case op < 7:
			n := l.pop(&s[i])
			if n != top() {
				t.Fatalf("step %d: popped %d, want %d of %v", step, n, top(), model[i])
			}
			if n != 0 {
				model[i] = model[i][:len(model[i])-1]
				hand = append(hand, n)
			}
		case rng.IntN(4) == 0:
			got := l.takeAll(&s[i])
			slices.Reverse(got)
			if !slices.Equal(got, model[i]) {
				t.Fatalf("step %d: took %v, want %v", step, got, model[i])
			}
			hand = append(hand, got...)
			model[i] = nil
		}
		if s[i].Empty() != (len(model[i]) == 0) {
			t.Fatalf("step %d: Empty() = %v with %v", step, s[i].Empty(), model[i])
		}
	}
}

// TestTag: every change moves the tag on, so that no head comes back while
// somebody still holds the old one, though the same node be on top.
func TestTag(t *testing.T) {
	l := newLinks(t, 3)
	var s Stack
	seen := map[uint64]string{s.head.Load(): "zero"}
	changed := func(name string) {
		t.Helper()
		h := s.head.Load()
		if was, ok := seen[h]; ok {
			t.Errorf("%s: head %#x was there after %s", name, h, was)
		}
		seen[h] = name
	}
	for i := range 10 {
		l.push(&s, 1, 1)
		changed(fmt.Sprint("push 1, round ", i))
		l.push(&s, 2, 2)
		changed(fmt.Sprint("push 2, round ", i))
		l.pop(&s)
		changed(fmt.Sprint("pop 2, round ", i))
		if i%2 == 0 {
			l.pop(&s)
		} else {
			l.takeAll(&s)
		}
		changed(fmt.Sprint("emptied, round ", i))
	}

	// The tag wraps and does not spill over into the number.
	s.head.Store(uint64(^uint32(0)) << 32)
	l.push(&s, 3, 3)
	if h := s.head.Load(); h != uint64(l.of(3)) {
		t.Errorf("head %#x after the last tag, want node 3", h)
	}
}

// stress is nodes that go to and fro between stacks and goroutines.
type stress struct {
	*testing.T
	links  *links
	stacks [3]Stack
	holder []atomic.Uint32 // who holds the node, 0 on a stack
	value  []int           // written by who holds it
	failed atomic.Bool
}

// claim notes that me has taken n.
func (s *stress) claim(n, me uint32) {
	if int(n) >= len(s.holder) || !s.holder[n].CompareAndSwap(0, me) {
		if !s.failed.Swap(true) {
			s.Errorf("node %d came to %d, though it is held", n, me)
		}
		return
	}
	s.value[n]++ // seen by the race detector if two hold it
}

// push puts the nodes, held by me, on a stack as one chain.
func (s *stress) push(to *Stack, nodes []uint32, me uint32) {
	for _, n := range nodes {
		s.value[n]++
		if !s.holder[n].CompareAndSwap(me, 0) && !s.failed.Swap(true) {
			s.Errorf("node %d was taken from %d", n, me)
		}
	}
	first, last := chain(s.links, nodes)
	s.links.push(to, first, last)
}

func (s *stress) work(me uint32, steps int) {
	rng := rand.New(rand.NewPCG(uint64(me), 5))
	var hand []uint32
	for range steps {
		if s.failed.Load() {
			return
		}
		from, to := &s.stacks[rng.IntN(len(s.stacks))], &s.stacks[rng.IntN(len(s.stacks))]
		switch op := rng.IntN(16); {
		case op == 0:
			taken := s.links.takeAll(from)
			for _, n := range taken {
				s.claim(n, me)
			}
			hand = append(hand, taken...)
		case op < 8:
			if n := s.links.pop(from); n != 0 {
				s.claim(n, me)
				hand = append(hand, n)
			}
		case len(hand) > 0:
			n := 1 + rng.IntN(min(len(hand), 4))
			s.push(to, hand[:n], me)
			hand = hand[n:]
		}
		if len(hand) > 8 {
			s.push(to, hand[8:], me)
			hand = hand[:8]
		}
	}
	if len(hand) > 0 {
		s.push(&s.stacks[0], hand, me)
	}
}

// TestStress: a node is held by one at a time, and none is lost or doubled.
func TestStress(t *testing.T) {
	const nodes, workers = 24, 4
	steps := 200_000
	if testing.Short() {
		steps = 20_000
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{1, 2, 4, 8} {
		t.Run(fmt.Sprint("procs=", procs), func(t *testing.T) {
			runtime.GOMAXPROCS(procs)
			s := &stress{T: t, links: newLinks(t, nodes), holder: make([]atomic.Uint32, nodes+1), value: make([]int, nodes+1)}
			for n := range uint32(nodes) {
				s.links.push(&s.stacks[n%3], n+1, n+1)
			}
			var wg sync.WaitGroup
			for w := range uint32(workers) {
				wg.Go(func() { s.work(w+1, steps/workers) })
			}
			wg.Wait()
			var left []uint32
			for i := range s.stacks {
				left = append(left, s.links.takeAll(&s.stacks[i])...)
			}
			slices.Sort(left)
			if len(left) != nodes || left[0] != 1 || left[nodes-1] != nodes || len(slices.Compact(left)) != nodes {
				t.Errorf("left are %v, want 1 to %d", left, nodes)
			}
		})
	}
}

// TestPopOnly: what was pushed in a row is popped by many once each.
func TestPopOnly(t *testing.T) {
	const nodes = 2_000
	l := newLinks(t, nodes)
	var s Stack
	var wg sync.WaitGroup
	for w := range uint32(4) {
		wg.Go(func() {
			for n := w + 1; n <= nodes; n += 4 {
				l.push(&s, n, n)
			}
		})
	}
	wg.Wait()
	var seen [nodes + 1]atomic.Int32
	for range 4 {
		wg.Go(func() {
			for n := l.pop(&s); n != 0; n = l.pop(&s) {
				seen[n].Add(1)
			}
		})
	}
	wg.Wait()
	for n := range seen[1:] {
		if c := seen[n+1].Load(); c != 1 {
			t.Fatalf("node %d was popped %d times", n+1, c)
		}
	}
}
