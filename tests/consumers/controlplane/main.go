// An xDS control plane that serves the resources of one YAML file to everybody.
//
//	controlplane ADDRESS RESOURCES.yaml
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	// The messages that stand in the resources as `"@type"`.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: controlplane ADDRESS RESOURCES.yaml")
	}
	log.Fatal(serve(os.Args[1], os.Args[2]))
}

func serve(address, file string) error {
	resources, err := read(file)
	if err != nil {
		return err
	}
	snapshot, err := cachev3.NewSnapshot("1", resources)
	if err != nil {
		return err
	}
	cache := cachev3.NewSnapshotCache(false, everybody{}, nil)
	if err := cache.SetSnapshot(context.Background(), everybody{}.ID(nil), snapshot); err != nil {
		return err
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(context.Background(), cache, nil))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

// everybody makes all nodes one, so that they get the same resources.
type everybody struct{}

func (everybody) ID(*corev3.Node) string { return "everybody" }

func read(file string) (map[resourcev3.Type][]types.Resource, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kinds struct{ Listeners, Routes, Clusters, Endpoints []json.RawMessage }
	if err := yaml.UnmarshalStrict(text, &kinds); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	resources := map[resourcev3.Type][]types.Resource{}
	for _, kind := range []struct {
		name resourcev3.Type
		raw  []json.RawMessage
		new  func() types.Resource
	}{
		{resourcev3.ListenerType, kinds.Listeners, func() types.Resource { return &listenerv3.Listener{} }},
		{resourcev3.RouteType, kinds.Routes, func() types.Resource { return &routev3.RouteConfiguration{} }},
		{resourcev3.ClusterType, kinds.Clusters, func() types.Resource { return &clusterv3.Cluster{} }},
		{resourcev3.EndpointType, kinds.Endpoints, func() types.Resource { return &endpointv3.ClusterLoadAssignment{} }},
	} {
		for _, raw := range kind.raw {
			resource := kind.new()
			if err := protojson.Unmarshal(raw, resource); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			resources[kind.name] = append(resources[kind.name], resource)
		}
	}
	return resources, nil
}
