//! `pipeline devices`: the adapters of this machine and their limits.

use std::fmt::Write;

use gpu::AdapterReport;

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
    // What `--device auto` takes: the first GPU.
    let taken = adapters.iter().position(gpu::AdapterReport::is_gpu);
    let text = if args.json {
        let all: Vec<_> = adapters.iter().enumerate().map(|(index, adapter)| json(adapter, taken == Some(index))).collect();
        format!("{:#}\n", serde_json::json!(all))
    } else {
        list(&adapters, taken)
    };
    super::print(&text)?;
    Ok(Exit::Done)
}

fn json(adapter: &AdapterReport, is_taken: bool) -> serde_json::Value {
    let mut value = serde_json::json!(adapter);
    value["auto"] = is_taken.into();
    value
}

fn list(adapters: &[AdapterReport], taken: Option<usize>) -> String {
    let mut text = String::new();
    if adapters.is_empty() {
        text += "no adapter: no GPU with a Vulkan, Metal or DirectX 12 driver was found\n";
    }
    for adapter in adapters {
        let counts = if adapter.is_gpu() { "" } else { ", counts as no GPU" };
        let _ = writeln!(text, "{} ({}{counts})", adapter.name, adapter.kind);
        let _ = writeln!(text, "  {}, {}", adapter.backend, adapter.driver);
        let mib = |bytes: u64| bytes >> 20;
        let (binding, buffer) = (mib(adapter.max_binding_bytes), mib(adapter.max_buffer_bytes));
        let _ =
            writeln!(text, "  bindings up to {binding} MiB, buffers up to {buffer} MiB, {} workgroups a dimension", adapter.max_workgroups);
    }
    let auto = taken.and_then(|index| adapters.get(index)).map_or("the processor", |adapter| adapter.name.as_str());
    let _ = writeln!(text, "\n`--device auto` takes {auto}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            name: name.to_owned(),
            kind,
            backend: "vulkan".to_owned(),
            driver: "d 1".to_owned(),
            max_binding_bytes: 1 << 30,
            max_buffer_bytes: 1 << 31,
            max_workgroups: 65535,
        }
    }

    #[test]
    fn what_auto_takes_is_said() {
        assert!(list(&[], None).ends_with("was found\n\n`--device auto` takes the processor\n"));
        let all = [adapter("H200", "discrete"), adapter("llvmpipe", "software")];
        assert!(list(&all, Some(0)).ends_with("`--device auto` takes H200\n"));
        assert!(list(&all[1..], None).contains("llvmpipe (software, counts as no GPU)"));
        assert_eq!((json(&all[0], true)["auto"].as_bool(), json(&all[1], false)["auto"].as_bool()), (Some(true), Some(false)));
    }
}
