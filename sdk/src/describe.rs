//! How a step describes itself: names, ports, and the schema of its config.

use crate::bindings::exports::pipe::step::guest;

/// A step's own account of itself, read by the runner once per component.
#[derive(Debug, Clone)]
pub struct Description {
    name: String,
    version: String,
    summary: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// A place where a value goes in or comes out.
#[derive(Debug, Clone)]
pub struct Port {
    name: String,
    kind: guest::PortKind,
    required: bool,
    many: bool,
    doc: String,
}

impl Description {
    /// Starts a description without ports.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds an input.
    #[must_use]
    pub fn input(mut self, port: Port) -> Self {
        self.inputs.push(port);
        self
    }

    /// Adds an output.
    #[must_use]
    pub fn output(mut self, port: Port) -> Self {
        self.outputs.push(port);
        self
    }

    /// Completes the description with the config's JSON Schema.
    pub(crate) fn into_wit(self, config_schema: String) -> guest::Description {
        guest::Description {
            name: self.name,
            version: self.version,
            summary: self.summary,
            config_schema,
            inputs: self.inputs.into_iter().map(Port::into_wit).collect(),
            outputs: self.outputs.into_iter().map(Port::into_wit).collect(),
            meta: Vec::new(),
        }
    }
}

impl Port {
    /// A required port for a tree.
    pub fn tree(name: &str, doc: &str) -> Self {
        Self::new(name, guest::PortKind::Tree, doc)
    }

    /// A required port for a blob.
    pub fn blob(name: &str, doc: &str) -> Self {
        Self::new(name, guest::PortKind::Blob, doc)
    }

    fn new(name: &str, kind: guest::PortKind, doc: &str) -> Self {
        Self { name: name.to_owned(), kind, required: true, many: false, doc: doc.to_owned() }
    }

    /// The pipeline may leave this port out.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// The pipeline may give a list.
    #[must_use]
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }

    fn into_wit(self) -> guest::Port {
        guest::Port { name: self.name, kind: self.kind, required: self.required, many: self.many, doc: self.doc }
    }
}
