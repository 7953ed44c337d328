// Reads each dashboard by the types of Grafana itself: unknown fields, wrong types and broken rules are faults.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	// Panels and queries are then read by the types of their kind.
	plugins.RegisterDefaultPlugins()
	faults, panels := 0, 0
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		found := dashboard.Dashboard{}
		if err == nil {
			err = found.UnmarshalJSONStrict(text)
		}
		// An empty list of errors is an error in Go, and none here.
		if err == nil || err.Error() == "" {
			err = found.Validate()
		}
		if err != nil && err.Error() != "" {
			fmt.Printf("%s: %v\n", path, err)
			faults++
		}
		panels += len(found.Panels)
	}
	if faults > 0 {
		os.Exit(1)
	}
	fmt.Printf("%d dashboards, %d panels\n", len(os.Args)-1, panels)
}
