package proc

import (
	"os"
	"testing"

	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
)

func TestReadSeesMemory(t *testing.T) {
	const size = 32 << 20
	b, err := offheap.Slice[byte](size) // never resident before
	if err != nil {
		t.Fatal(err)
	}
	before := Read()
	for i := 0; i < size; i += 4096 {
		b[i] = 1
	}
	after := Read()
	if grown := int64(after.Resident - before.Resident); grown < size/2 {
		t.Errorf("%d bytes more are resident after %d were touched", grown, size)
	}
	if after.Virtual < after.Resident {
		t.Errorf("%d bytes are resident of %d in all", after.Resident, after.Virtual)
	}
	if after.Faults <= before.Faults {
		t.Errorf("%d faults after %d", after.Faults, before.Faults)
	}
}

func TestParseStatm(t *testing.T) {
	page := uint64(os.Getpagesize())
	for text, want := range map[string][2]uint64{
		"1000 300 100 7 0 20 0\n": {1000 * page, 200 * page},
		"1000 300 100":            {1000 * page, 200 * page},
		"1000 100 300 7\n":        {1000 * page, 0},
		"1000":                    {1000 * page, 0},
		"":                        {},
	} {
		if virtual, resident := parseStatm([]byte(text)); virtual != want[0] || resident != want[1] {
			t.Errorf("%q: %d virtual and %d resident, want %d", text, virtual, resident, want)
		}
	}
}
