//! What `build.rs` found in the shaders: sources with their imports, entry points with their workgroups and bindings, structs with their offsets.

/// A shader file with all it imports.
#[derive(Debug)]
pub(crate) struct Shader {
    /// The file, without its ending.
    pub(crate) name: &'static str,
    /// WGSL.
    pub(crate) source: &'static str,
}

/// An entry point of a shader.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) shader: &'static Shader,
    pub(crate) entry: &'static str,
    /// Lanes of a workgroup along each axis.
    pub(crate) workgroup: [Size; 3],
    /// The buffers that this entry point uses, by number.
    pub(crate) bindings: &'static [Binding],
}

/// Lanes of a workgroup along one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// So many.
    Fixed(u32),
    /// A constant that a pipeline may override: its name, and its value where none does.
    Named(&'static str, u32),
}

impl Size {
    /// With these constants.
    pub(crate) fn of(self, constants: &[(&'static str, u32)]) -> u32 {
        match self {
            Self::Fixed(lanes) => lanes,
            Self::Named(name, lanes) => constants.iter().find(|(constant, _)| *constant == name).map_or(lanes, |(_, lanes)| *lanes),
        }
    }
}

/// A buffer of a shader.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) number: u32,
    pub(crate) access: Access,
    pub(crate) name: &'static str,
}

/// How a shader uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Uniform,
    Read,
    ReadWrite,
}

/// Where the members of a struct lie.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the host's struct"))]
pub(crate) struct Layout {
    /// Size of the struct.
    pub(crate) bytes: u32,
    /// Name and offset of each member.
    pub(crate) members: &'static [(&'static str, u32)],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
