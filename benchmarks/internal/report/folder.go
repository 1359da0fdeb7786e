package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Document is a report with charts.
type Document interface {
	WriteMarkdown(w io.Writer) error
	WriteJSON(w io.Writer) error
	// WriteCharts draws into dir, and returns the files' names without endings.
	WriteCharts(dir string) (names []string, err error)
}

// WriteFolder writes all of a report into dir: report.md, report.json and the charts.
func WriteFolder(dir string, d Document) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	charts, err := d.WriteCharts(dir)
	if err != nil {
		return err
	}
	md, err := os.Create(filepath.Join(dir, "report.md"))
	if err != nil {
		return err
	}
	defer md.Close()
	if err := d.WriteMarkdown(md); err != nil {
		return err
	}
	for _, name := range charts {
		if _, err := fmt.Fprintf(md, "\n![%s](%s.svg)\n", name, name); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(dir, "report.json"))
	if err != nil {
		return err
	}
	defer file.Close()
	return d.WriteJSON(file)
}
