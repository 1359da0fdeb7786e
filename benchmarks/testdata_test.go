package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/dustin/go-humanize"
)

// The README says of each committed trace what is true.
func TestTestdataReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("testdata", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		p, err := readTrace(file, 0)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		// | trace | program | … | ops | … | peak live bytes | peak live blocks | threads |
		row := fmt.Sprintf(`(?m)^\| %s \| %s \|.*\| %s \|.*\| %s \| %s \| %d \|\r?$`,
			regexp.QuoteMeta(nameOf(file)), regexp.QuoteMeta(p.Program), humanize.Comma(int64(p.Records)),
			humanize.Comma(int64(p.PeakBytes)), humanize.Comma(int64(p.PeakBlocks)), len(p.Threads))
		if !regexp.MustCompile(row).Match(readme) {
			t.Errorf("testdata/README.md has no row that matches\n%s", row)
		}
	}
}
