package shard

import (
	"errors"
	"runtime/debug"
	"testing"
	"time"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/osmem"
)

// A request for a run that gets one just before the table is closed touches nothing of
// it after. The requests map an arena each, and while they do they let Close wait for the
// arenas' lock, so long that it is handed to Close the second time, before who has
// taken the run goes on.
func TestRunBesideClose(t *testing.T) {
	onOneP(t)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for range 20 {
		table, _ := openTable(t, 24*time.Hour)
		asked, closed := make(chan struct{}, 1), make(chan error)
		restore := osmem.SetFault(func(op osmem.Op, _ int) error {
			if op == osmem.OpMap || op == osmem.OpCommit {
				select {
				case asked <- struct{}{}:
				default:
				}
				for !table.closed.Load() {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(3 * time.Millisecond)
			}
			return nil
		})
		go func() {
			<-asked
			closed <- table.Close()
		}()
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					t.Error(fault)
				}
			}()
			for range 2 {
				_, _, _ = table.AllocLarge(table.conf.Geometry.RunMax(), 1) // or it is closed
			}
		}()
		restore()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// Slots that the system refuses to take back when a table is closed, or could not be
// opened, are given back later.
func TestSlotsRefused(t *testing.T) {
	closeTable := func() error {
		table, _ := openTable(t, 24*time.Hour)
		return table.Close()
	}
	notOpened := func() error {
		_, err := Open(Config{Geometry: *arena.GeometryOf(20)}, &View{})
		return err
	}
	for name, end := range map[string]func() error{"Close": closeTable, "Open": notOpened} {
		restore := osmem.SetFault(func(op osmem.Op, _ int) error {
			if op == osmem.OpRelease || op == osmem.OpDecommit || op == osmem.OpCommit && name == "Open" {
				return osmem.ErrNoMemory
			}
			return nil
		})
		err := end()
		restore()
		if !errors.Is(err, osmem.ErrNoMemory) {
			t.Fatalf("%s: %v, want the system's refusal", name, err)
		}
		before := osmem.Calls()
		if err := closeTable(); err != nil {
			t.Fatal(err)
		}
		if made := osmem.Calls().Sub(before); made.Release+made.Decommit != 2 {
			t.Errorf("%s: %d releases and %d decommits, want those of the slots of two tables", name, made.Release, made.Decommit)
		}
	}
}
