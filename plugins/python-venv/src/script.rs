//! The programs in `bin`: those that a wheel brings, with the right first line, and those that call an entry point.

use crate::entry_points::EntryPoint;

/// What a wheel writes where the interpreter's path will be.
pub(crate) const PLACEHOLDER: &[u8] = b"#!python";

/// A script of a wheel with `shebang` for its first line, if that was left to us.
pub(crate) fn with_shebang(content: &[u8], shebang: &str) -> Option<Vec<u8>> {
    if !content.starts_with(PLACEHOLDER) {
        return None;
    }
    let rest = content.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &content[end + 1..]);
    Some([shebang.as_bytes(), rest].concat())
}

/// The program that calls an entry point, as pip writes it.
pub(crate) fn launcher(command: &EntryPoint, shebang: &str) -> String {
    let EntryPoint { module, object, .. } = command;
    let import = object.split('.').next().unwrap_or(object);
    format!(
        "{shebang}# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom {module} import {import}\n\
         if __name__ == '__main__':\n    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    \
         sys.exit({object}())\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHEBANG: &str = "#!/app/venv/bin/python\n";

    #[test]
    fn only_a_placeholder_is_replaced() {
        let changed =
            |text: &str| with_shebang(text.as_bytes(), SHEBANG).map(|text| String::from_utf8(text).expect("text"));
        assert_eq!(changed("#!python\r\nimport x\n").as_deref(), Some("#!/app/venv/bin/python\nimport x\n"));
        assert_eq!(changed("#!pythonw -E\nx").as_deref(), Some("#!/app/venv/bin/python\nx"));
        assert_eq!(changed("#!python").as_deref(), Some(SHEBANG));
        assert_eq!(changed("#!/bin/sh\n"), None);
        assert_eq!(changed("\u{7f}ELF"), None);
    }

    #[test]
    fn a_launcher_calls_the_object() {
        let command = EntryPoint { name: "x".into(), module: "a.b".into(), object: "C.main".into() };
        let expected = "#!/app/venv/bin/python\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom a.b import C\n\
            if __name__ == '__main__':\n    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    \
            sys.exit(C.main())\n";
        assert_eq!(launcher(&command, SHEBANG), expected);
    }
}
