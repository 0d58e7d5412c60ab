//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] = [
        "landbridge/federation/v1/federation.proto",
        "landbridge/gateway/v1/admin.proto",
        "landbridge/gateway/v1/policy.proto",
        "landbridge/tunnel/v1/tunnel.proto",
    ];
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    // Messages with a join token or its secret: their `Debug` is written by hand, in `src/hidden.rs`.
    const SECRET: [&str; 3] = [
        ".landbridge.federation.v1.JoinRequest",
        ".landbridge.federation.v1.CreateTokenResponse",
        ".landbridge.gateway.v1.JoinRequest",
    ];
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .bytes(".")
        .btree_map(".")
        .skip_debug(SECRET)
        .compile_fds(compiler.file_descriptor_set())?;
    println!("cargo:rerun-if-changed=landbridge");
    Ok(())
}
