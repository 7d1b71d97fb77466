// kstatus tells what kstatus, and so Flux, makes of Kubernetes objects: it reads JSON, one object after the other, and
// writes for each a line of JSON with its status and message.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer) error {
	// Through UnmarshalJSON, which keeps whole numbers whole as Kubernetes' clients do; kstatus takes no others.
	objects, verdicts := json.NewDecoder(in), json.NewEncoder(out)
	for {
		object := &unstructured.Unstructured{}
		if err := objects.Decode(object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found, err := status.Compute(object)
		if err != nil {
			return err
		}
		if err := verdicts.Encode(verdict{string(found.Status), found.Message}); err != nil {
			return err
		}
	}
}
