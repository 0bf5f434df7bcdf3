//! Makes the gRPC services of `src/api` from a list of their methods: the messages are written by
//! hand there, so that neither `protoc` nor a copy of the protocols is needed.
use std::{env, error::Error, fs, path::Path};

use tonic_build::manual::{Builder, Method, Service, ServiceBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let services = [
        service(
            "pluginregistration",
            "Registration",
            &[
                ("get_info", "GetInfo", "InfoRequest", "PluginInfo"),
                (
                    "notify_registration_status",
                    "NotifyRegistrationStatus",
                    "RegistrationStatus",
                    "RegistrationStatusResponse",
                ),
            ],
        ),
        service(
            "csi.v1",
            "Identity",
            &[
                (
                    "get_plugin_info",
                    "GetPluginInfo",
                    "GetPluginInfoRequest",
                    "GetPluginInfoResponse",
                ),
                (
                    "get_plugin_capabilities",
                    "GetPluginCapabilities",
                    "GetPluginCapabilitiesRequest",
                    "GetPluginCapabilitiesResponse",
                ),
                ("probe", "Probe", "ProbeRequest", "ProbeResponse"),
            ],
        ),
        service(
            "csi.v1",
            "Node",
            &[
                (
                    "node_publish_volume",
                    "NodePublishVolume",
                    "NodePublishVolumeRequest",
                    "NodePublishVolumeResponse",
                ),
                (
                    "node_unpublish_volume",
                    "NodeUnpublishVolume",
                    "NodeUnpublishVolumeRequest",
                    "NodeUnpublishVolumeResponse",
                ),
                (
                    "node_get_capabilities",
                    "NodeGetCapabilities",
                    "NodeGetCapabilitiesRequest",
                    "NodeGetCapabilitiesResponse",
                ),
                (
                    "node_get_info",
                    "NodeGetInfo",
                    "NodeGetInfoRequest",
                    "NodeGetInfoResponse",
                ),
            ],
        ),
    ];
    Builder::new().compile(&services);
    // One file, so that the crate can say once what its lints are to make of it.
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let mut all = String::new();
    for name in [
        "pluginregistration.Registration",
        "csi.v1.Identity",
        "csi.v1.Node",
    ] {
        all += &fs::read_to_string(out.join(format!("{name}.rs")))?;
    }
    fs::write(out.join("services.rs"), all)?;
    Ok(())
}

/// A service of methods: Rust's name, the protocol's, request and answer.
fn service(package: &str, name: &str, methods: &[(&str, &str, &str, &str)]) -> Service {
    let methods = methods.iter().map(|(rust, route, request, answer)| {
        Method::builder()
            .name(*rust)
            .route_name(*route)
            .input_type(format!("crate::api::{request}"))
            .output_type(format!("crate::api::{answer}"))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    });
    let service = Service::builder().name(name).package(package);
    methods.fold(service, ServiceBuilder::method).build()
}
