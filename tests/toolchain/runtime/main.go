// The process that every pod of the node begins with: it holds the pod's namespaces until it is told to end.
package main

import (
	"context"
	"os/signal"
	"syscall"
)

func main() {
	told, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	<-told.Done()
}
