//! `pipeline devices`: the adapters of this machine and their limits.

use std::fmt::Write;

use super::Exit;

/// Arguments of `pipeline devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Lists the adapters.
///
/// # Errors
/// Stdout can't be written.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let adapters = gpu::adapters();
    let mut text = String::new();
    if args.json {
        let _ = writeln!(text, "{:#}", serde_json::json!(adapters));
    } else if adapters.is_empty() {
        text += "no adapter: no GPU with a Vulkan, Metal or DirectX 12 driver was found\n";
    }
    for adapter in adapters.iter().filter(|_| !args.json) {
        let counts = if adapter.is_gpu() { "" } else { ", counts as no GPU" };
        let _ = writeln!(text, "{} ({}{counts})", adapter.name, adapter.kind);
        let _ = writeln!(text, "  {}, {}", adapter.backend, adapter.driver);
        let mib = |bytes: u64| bytes >> 20;
        let (binding, buffer) = (mib(adapter.max_binding_bytes), mib(adapter.max_buffer_bytes));
        let _ =
            writeln!(text, "  bindings up to {binding} MiB, buffers up to {buffer} MiB, {} workgroups a dimension", adapter.max_workgroups);
    }
    super::print(&text)?;
    Ok(Exit::Done)
}
