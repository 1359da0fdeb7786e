package shard

import (
	"runtime/debug"
	"testing"
	"time"

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
