// Policies enforces NetworkPolicies on this node: kube-router's controller, without its router and its proxy.
//
// It keeps a chain of iptables for each pod and sets of addresses for whom a policy names, made anew whenever a pod, a policy or a
// namespace changes. It leaves them where they are when it ends, so that nothing is open while it is started again; ../../down.sh
// removes them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file with the API server and who asks it")
	node := flag.String("node", "", "name of this node")
	services := flag.String("services", "", "addresses of Services, as 10.96.0.0/16")
	flag.Parse()
	stop := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		close(stop)
	}()
	if err := run(*kubeconfig, *node, *services, stop); err != nil {
		fmt.Fprintln(os.Stderr, "policies:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, node, services string, stop <-chan struct{}) error {
	access, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	config := options.NewKubeRouterConfig()
	config.EnableIPv4 = true
	config.ClusterIPCIDRs = []string{services}
	config.HostnameOverride = node
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	watched := informers.NewSharedInformerFactory(client, 0)
	pods := watched.Core().V1().Pods().Informer()
	namespaces := watched.Core().V1().Namespaces().Informer()
	policies := watched.Networking().V1().NetworkPolicies().Informer()
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	if err != nil {
		return err
	}
	watched.Start(stop)
	// A policy that is enforced without all pods would keep out who may come in.
	if !cache.WaitForCacheSync(stop, pods.HasSynced, namespaces.HasSynced, policies.HasSynced) {
		return errors.New("ended before everything was listed")
	}
	_, ofPods := pods.AddEventHandler(controller.PodEventHandler)
	_, ofNamespaces := namespaces.AddEventHandler(controller.NamespaceEventHandler)
	_, ofPolicies := policies.AddEventHandler(controller.NetworkPolicyEventHandler)
	if err := errors.Join(ofPods, ofNamespaces, ofPolicies); err != nil {
		return err
	}
	// It tells of each pass, and waits until that was heard.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	controller.Run(beats, stop, &running)
	running.Wait()
	return nil
}
