// fakecsi: a throwaway ephemeral inline CSI driver that logs all it is asked, one JSON line per call.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	reg "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

var (
	name = flag.String("name", "do-nothing.csi.test", "driver name")
	root = flag.String("kubelet-root", "/var/lib/kubelet", "")
	node = flag.String("node", "lab-node", "")
	ctl  = flag.String("ctl", "/tmp/fakecsi-ctl", "folder with control files: fail (a gRPC code number), sleep (seconds)")
	mu   sync.Mutex
	last time.Time
)

type drv struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	reg.UnimplementedRegistrationServer
}

func (d *drv) GetInfo(context.Context, *reg.InfoRequest) (*reg.PluginInfo, error) {
	return &reg.PluginInfo{Type: "CSIPlugin", Name: *name, Endpoint: filepath.Join(*root, "plugins", *name, "csi.sock"), SupportedVersions: []string{"1.0.0"}}, nil
}
func (d *drv) NotifyRegistrationStatus(context.Context, *reg.RegistrationStatus) (*reg.RegistrationStatusResponse, error) {
	return &reg.RegistrationStatusResponse{}, nil
}
func (d *drv) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: *name, VendorVersion: "0"}, nil
}
func (d *drv) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}
func (d *drv) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
func (d *drv) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: *node}, nil
}
func (d *drv) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}
func (d *drv) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if b, err := os.ReadFile(filepath.Join(*ctl, "sleep")); err == nil {
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		time.Sleep(time.Duration(n) * time.Second)
	}
	if b, err := os.ReadFile(filepath.Join(*ctl, "fail")); err == nil {
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, status.Error(codes.Code(n), "told to fail")
	}
	if r.VolumeId == "" || r.TargetPath == "" || r.VolumeCapability == nil {
		return nil, status.Error(codes.InvalidArgument, "volume id, target path and capability are needed")
	}
	t := r.TargetPath
	if err := os.MkdirAll(t, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	mi, _ := os.ReadFile("/proc/self/mountinfo")
	if !strings.Contains(string(mi), " "+t+" ") {
		if err := syscall.Mount("do-nothing", t, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "size=1m,mode=0755"); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	_ = os.WriteFile(filepath.Join(t, "at"), []byte(time.Now().Format(time.RFC3339Nano)+"\n"), 0o644)
	return &csi.NodePublishVolumeResponse{}, nil
}
func (d *drv) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.VolumeId == "" || r.TargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id and target path are needed")
	}
	if err := syscall.Unmount(r.TargetPath, 0); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
		return nil, status.Error(codes.Internal, err.Error())
	}
	_ = os.Remove(r.TargetPath)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func logCall(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	p, _ := peer.FromContext(ctx)
	start := time.Now()
	dl := "none"
	if t, ok := ctx.Deadline(); ok {
		dl = time.Until(t).Round(time.Millisecond).String()
	}
	resp, err := h(ctx, req)
	mu.Lock()
	defer mu.Unlock()
	line, _ := json.Marshal(map[string]any{"t": start.Format("15:04:05.000"), "since_last_s": start.Sub(last).Round(time.Millisecond).Seconds(), "method": info.FullMethod,
		"authority": md[":authority"], "ua": md["user-agent"], "peer": p.Addr.String(), "deadline": dl, "req": req, "err": fmt.Sprint(err)})
	last = start
	fmt.Println(string(line))
	return resp, err
}

func main() {
	flag.Parse()
	d := &drv{}
	dir := filepath.Join(*root, "plugins", *name)
	_ = os.MkdirAll(dir, 0o755)
	_ = os.MkdirAll(filepath.Join(*root, "plugins_registry"), 0o755)
	serve := func(path string, f func(*grpc.Server)) {
		_ = os.Remove(path)
		l, err := net.Listen("unix", path)
		if err != nil {
			panic(err)
		}
		s := grpc.NewServer(grpc.UnaryInterceptor(logCall))
		f(s)
		go s.Serve(l)
	}
	serve(filepath.Join(dir, "csi.sock"), func(s *grpc.Server) { csi.RegisterIdentityServer(s, d); csi.RegisterNodeServer(s, d) })
	regp := filepath.Join(*root, "plugins_registry", *name+"-reg.sock")
	serve(regp, func(s *grpc.Server) { reg.RegisterRegistrationServer(s, d) })
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
	_ = os.Remove(regp)
}
