// CoreDNS with the few plugins that a cluster needs: compiling all of them takes four minutes, these take one.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// A query passes through the plugins in this order, whatever the order in the Corefile.
func init() {
	dnsserver.Directives = []string{"bind", "reload", "ready", "errors", "cache", "kubernetes", "forward"}
}

func main() {
	coremain.Run()
}
