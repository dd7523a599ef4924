//! Reads the shaders, checks them, and writes what the host needs to know of them, so that it is never said twice: `$OUT_DIR/shaders.rs`.
//!
//! A shader's `#import topic` lines name files of `shaders/shared/`. They are appended after its body (WGSL does not mind the order), so that the
//! lines of an error are those of the file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Handle, Literal, Module, StorageAccess, TypeInner};

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=shaders");
    let mut out = String::new();
    for name in names(Path::new("shaders")).map_err(|error| error.to_string())? {
        let source = resolve(&name)?;
        let path = format!("gpu/shaders/{name}.wgsl");
        let module = naga::front::wgsl::parse_str(&source).map_err(|error| shown(error.emit_to_string_with_path(&source, &path)))?;
        let checked = Validator::new(ValidationFlags::all(), Capabilities::default()).validate(&module);
        let info = checked.map_err(|error| shown(error.emit_to_string_with_path(&source, &path)))?;
        describe(&mut out, &name, &source, &module, &info)?;
    }
    let target = Path::new(&env::var("OUT_DIR").map_err(|error| error.to_string())?).join("shaders.rs");
    fs::write(target, out).map_err(|error| error.to_string())
}

/// An error as the reader of a build log wants it: on lines of its own.
#[expect(clippy::print_stderr, reason = "a build script has no other place to write to")]
fn shown(error: String) -> String {
    eprintln!("{error}");
    "a shader is wrong".to_owned()
}

/// The shaders, by name.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let (Some("wgsl"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|n| n.to_str())) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// A shader with what it imports, and what that imports, once each.
fn resolve(name: &str) -> Result<String, String> {
    let (mut source, mut imported) = (String::new(), BTreeSet::new());
    let mut wanted = vec![format!("shaders/{name}.wgsl")];
    while let Some(path) = wanted.pop() {
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        for line in text.lines() {
            if let Some(topic) = line.strip_prefix("#import ") {
                if imported.insert(topic.trim().to_owned()) {
                    wanted.push(format!("shaders/shared/{}.wgsl", topic.trim()));
                }
                source.push_str("//");
            }
            source.push_str(line);
            source.push('\n');
        }
    }
    Ok(source)
}

/// Writes a module for a shader: `SHADER`, a `Kernel` for each entry point, a `Layout` for each struct.
fn describe(out: &mut String, name: &str, source: &str, module: &Module, info: &ModuleInfo) -> Result<(), String> {
    let text = |error: std::fmt::Error| error.to_string();
    let allow = "#[allow(dead_code, reason = \"some kernels and layouts are for tests only\")]";
    writeln!(out, "/// `shaders/{name}.wgsl`.\n{allow}\npub(crate) mod {name} {{\n    #[allow(unused_imports, reason = \"as above\")]\n    use super::{{Access, Binding, Kernel, Layout, Shader, Size}};\n").map_err(text)?;
    writeln!(out, "    static SHADER: Shader = Shader {{ name: {name:?}, source: {source:?} }};").map_err(text)?;
    for (index, entry) in module.entry_points.iter().enumerate() {
        let mut bindings = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if info.get_entry_point(index)[handle].is_empty() {
                continue;
            }
            let Some(binding) = &variable.binding else { continue };
            let called = variable.name.as_deref().unwrap_or("?");
            if binding.group != 0 {
                return Err(format!("{name}.wgsl: `{called}` is in group {}, and there is group 0 only", binding.group));
            }
            let access = match variable.space {
                AddressSpace::Uniform => "Uniform",
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "ReadWrite",
                AddressSpace::Storage { .. } => "Read",
                _ => return Err(format!("{name}.wgsl: `{called}` is no buffer")),
            };
            bindings.push((binding.binding, access, called));
        }
        bindings.sort_unstable();
        let bindings: Vec<String> = bindings
            .iter()
            .map(|(number, access, called)| format!("Binding {{ number: {number}, access: Access::{access}, name: {called:?} }}"))
            .collect();
        let workgroup: Vec<String> =
            (0..3).map(|axis| size(module, entry.workgroup_size[axis], entry.workgroup_size_overrides.and_then(|o| o[axis]))).collect();
        writeln!(
            out,
            "    /// Entry point `{entry}`.\n    pub(crate) static {upper}: Kernel = Kernel {{ shader: &SHADER, entry: {entry:?}, workgroup: [{workgroup}], bindings: &[{bindings}] }};",
            entry = entry.name,
            upper = entry.name.to_uppercase(),
            workgroup = workgroup.join(", "),
            bindings = bindings.join(", "),
        )
        .map_err(text)?;
    }
    for (_, kind) in module.types.iter() {
        let (Some(called), TypeInner::Struct { members, span }) = (&kind.name, &kind.inner) else { continue };
        let members: Vec<String> = members.iter().map(|m| format!("({:?}, {})", m.name.as_deref().unwrap_or("?"), m.offset)).collect();
        writeln!(
            out,
            "    /// Struct `{called}`.\n    pub(crate) static {upper}_LAYOUT: Layout = Layout {{ bytes: {span}, members: &[{members}] }};",
            upper = snake(called).to_uppercase(),
            members = members.join(", ")
        )
        .map_err(text)?;
    }
    writeln!(out, "}}").map_err(text)
}

/// One axis of a workgroup: a number, or the name and value of the constant that a pipeline may override.
fn size(module: &Module, fixed: u32, overridden: Option<Handle<Expression>>) -> String {
    let Some(handle) = overridden else { return format!("Size::Fixed({fixed})") };
    if let Expression::Override(constant) = module.global_expressions[handle] {
        let constant = &module.overrides[constant];
        let value = match constant.init.map(|init| &module.global_expressions[init]) {
            Some(Expression::Literal(Literal::U32(value))) => *value,
            _ => fixed,
        };
        return format!("Size::Named({:?}, {value})", constant.name.as_deref().unwrap_or("?"));
    }
    format!("Size::Fixed({fixed})")
}

/// `LaneState` as `lane_state`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
