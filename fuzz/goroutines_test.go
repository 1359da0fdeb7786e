package fuzz

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// actor runs its part of a program beside others, who send it blocks to free.
type actor struct {
	a    *pymalloc.Allocator
	heap *pymalloc.Heap // nil for who uses the allocator
	in   input
	seed byte
	own  []block
	mail []chan block // of all actors
	me   int
}

func (ac *actor) source() source {
	if ac.heap != nil {
		return ac.heap
	}
	return ac.a
}

func (ac *actor) free(b block) error {
	if err := b.check(b.size); err != nil {
		return err
	}
	return ac.source().UnsafeFree(b.p)
}

func (ac *actor) malloc(size int) error {
	p, err := ac.source().UnsafeMalloc(size)
	if errors.Is(err, pymalloc.ErrLimit) {
		return nil
	} else if err != nil {
		return err
	}
	ac.seed += 37
	b := block{p, size, ac.seed}
	b.stamp()
	ac.own = append(ac.own, b)
	return nil
}

// take removes one of the actor's own blocks.
func (ac *actor) take() block {
	i := ac.in.intn(len(ac.own))
	b := ac.own[i]
	ac.own[i] = ac.own[len(ac.own)-1]
	ac.own = ac.own[:len(ac.own)-1]
	return b
}

func (ac *actor) step() error {
	op := ac.in.byte()
	switch op % 8 {
	case 0, 1:
		return ac.malloc(1 + ac.in.intn(2000))
	case 2:
		return ac.malloc(ac.in.size())
	case 3: // many of one size, so that pools fill
		size := 1 + ac.in.intn(600)
		for range 1 + int(op>>3)*8 {
			if err := ac.malloc(size); err != nil {
				return err
			}
		}
	case 4:
		for n := 1 + int(op>>3)*4; n > 0 && len(ac.own) > 0; n-- {
			if err := ac.free(ac.take()); err != nil {
				return err
			}
		}
	case 5: // to somebody else
		to := ac.mail[ac.in.intn(len(ac.mail))]
		for n := 1 + int(op>>3)*4; n > 0 && len(ac.own) > 0; n-- {
			b := ac.take()
			select {
			case to <- b:
			default:
				ac.own = append(ac.own, b)
				return nil
			}
		}
	case 6:
		return ac.receive()
	case 7:
		if op>>3 == 0 {
			return ac.a.Trim()
		}
		if len(ac.own) > 0 {
			b := ac.take()
			size := ac.in.size()
			q, err := ac.source().UnsafeRealloc(b.p, size)
			if errors.Is(err, pymalloc.ErrLimit) {
				q, size, err = b.p, b.size, nil
			}
			if err != nil {
				return err
			}
			if err := (block{q, min(size, b.size), b.seed}).prefixOf(b); err != nil {
				return err
			}
			ac.seed += 37
			b = block{q, size, ac.seed}
			b.stamp()
			ac.own = append(ac.own, b)
		}
	}
	return nil
}

// receive frees what others have sent.
func (ac *actor) receive() error {
	for {
		select {
		case b := <-ac.mail[ac.me]:
			if err := ac.free(b); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// FuzzGoroutines: as FuzzAllocator, on goroutines beside each other that free
// each other's blocks.
func FuzzGoroutines(f *testing.F) {
	f.Add([]byte("goroutines that hand blocks to each other \x03\x10\x05\x01\x06\x04\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := input(data)
		in = in[:min(len(in), 3000)]
		o := in.options()
		a, err := pymalloc.NewAllocator(o)
		if err != nil {
			t.Fatal(err)
		}
		actors := make([]*actor, 2+in.byte()%4)
		var mail []chan block
		for range actors {
			mail = append(mail, make(chan block, 256))
		}
		part := len(in) / len(actors)
		var wg sync.WaitGroup
		errs := make([]error, len(actors))
		for i := range actors {
			ac := &actor{a: a, in: in[i*part : (i+1)*part], seed: byte(i), mail: mail, me: i}
			if i%2 == 1 {
				ac.heap = a.AcquireHeap()
			}
			actors[i] = ac
			wg.Go(func() {
				for len(ac.in) > 0 && errs[i] == nil {
					errs[i] = ac.step()
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if err := finish(a, actors); err != nil {
			t.Fatal(err)
		}
	})
}

// finish frees what is left, and compares what is live with the statistics
// before and after.
func finish(a *pymalloc.Allocator, actors []*actor) error {
	var s shadow
	live := map[unsafe.Pointer]bool{}
	for _, ac := range actors {
		for len(ac.mail[ac.me]) > 0 {
			ac.own = append(ac.own, <-ac.mail[ac.me])
		}
		for _, b := range ac.own {
			if live[b.p] {
				return fmt.Errorf("%p was handed out twice", b.p)
			}
			live[b.p] = true
			s.blocks = append(s.blocks, b)
			s.usable += uint64(pymalloc.UnsafeUsableSize(b.p))
		}
	}
	if err := s.agrees(a.Stats()); err != nil {
		return err
	}
	for i, ac := range actors {
		for _, b := range ac.own {
			if err := actors[(i+1)%len(actors)].free(b); err != nil {
				return err
			}
		}
	}
	if err := (&shadow{}).agrees(a.Stats()); err != nil {
		return err
	}
	for _, ac := range actors {
		if ac.heap != nil {
			ac.heap.Release()
		}
	}
	if err := a.Trim(); err != nil {
		return err
	}
	if n := a.Stats().MappedBytes; n != 0 {
		return fmt.Errorf("%d bytes are mapped, and nothing is live", n)
	}
	return a.Close()
}
