//! What kind of content a name promises. A browser that is told nothing asks to save.

use hyper::header::HeaderValue;

/// What is said of a name that promises nothing.
const BYTES: &str = "application/octet-stream";

/// Kinds by the last part of a name, in lower case.
const KINDS: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("apk", "application/vnd.android.package-archive"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("iso", "application/x-iso9660-image"),
    ("jar", "application/java-archive"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rpm", "application/x-rpm"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tgz", "application/gzip"),
    ("ttf", "font/ttf"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("whl", "application/zip"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The last parts of names of plain text.
const TEXTS: &[&str] = &[
    "adoc", "asc", "c", "cc", "cfg", "changes", "conf", "cpp", "diff", "dsc", "go", "h", "hpp", "ini", "java", "list",
    "log", "md", "patch", "pl", "py", "rb", "rs", "rst", "sh", "sha256", "sha512", "sig", "sources", "sql", "tex",
    "text", "toml", "ts", "tsv", "txt", "yaml", "yml",
];

/// Whole names of plain text, in lower case.
const TEXT_NAMES: &[&str] = &[
    "authors",
    "changelog",
    "checksums",
    "contents",
    "copying",
    "copyright",
    "inrelease",
    "install",
    "license",
    "makefile",
    "md5sums",
    "news",
    "packages",
    "readme",
    "release",
    "sha1sums",
    "sha256sums",
    "sha512sums",
    "sources",
    "todo",
];

/// The kind of the file called `name`.
#[must_use]
pub fn kind(name: &[u8]) -> HeaderValue {
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let found = match lower.rsplit_once('.') {
        Some((_, last)) if TEXTS.contains(&last) => super::reply::TEXT,
        Some((_, last)) => KINDS.iter().find(|(known, _)| *known == last).map_or(BYTES, |(_, kind)| kind),
        None if TEXT_NAMES.contains(&lower.as_str()) => super::reply::TEXT,
        None => BYTES,
    };
    HeaderValue::from_static(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_name() {
        let check = |name: &str, expected: &str| assert_eq!(kind(name.as_bytes()), expected, "{name}");
        check("a.txt", "text/plain; charset=utf-8");
        check("A.TXT", "text/plain; charset=utf-8");
        check("README", "text/plain; charset=utf-8");
        check("x.tar.gz", "application/gzip");
        check("index.html", "text/html; charset=utf-8");
        for nothing in ["a", "a.", ".", "a.b\n", "txt", ".profile", "a.unknown"] {
            check(nothing, BYTES);
        }
        assert_eq!(kind(b"\xff.\xfe"), BYTES);
    }

    #[test]
    fn tables_are_in_order() {
        assert!(KINDS.is_sorted() && TEXTS.is_sorted() && TEXT_NAMES.is_sorted());
    }
}
