//! Files written by hand, each with one thing wrong.

use std::io::Write;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn options() -> WarcOptions {
    WarcOptions {
        record_types: vec![RecordType::Response, RecordType::Resource, RecordType::Conversion],
        media_types: None,
        content: WarcContent::Text,
        headers: false,
        check_digests: false,
        max_record_bytes: 1 << 20,
        batch_rows: 2,
    }
}

struct Read {
    rows: RecordBatch,
    offsets: Vec<u64>,
    bad: Vec<BadRecord>,
    counts: Vec<String>,
}

impl Read {
    fn texts(&self) -> Vec<&str> {
        let html = self.rows.column_by_name("html").unwrap().as_string::<i32>();
        html.iter().map(|text| text.unwrap_or("NULL")).collect()
    }

    fn bad(&self) -> Vec<String> {
        let told = |bad: &BadRecord| format!("{} {}{}", bad.offset, bad.reason, if bad.rest_is_lost { ", rest lost" } else { "" });
        self.bad.iter().map(told).collect()
    }

    fn column(&self, name: &str) -> Vec<String> {
        let column = self.rows.column_by_name(name).unwrap();
        let is_date = matches!(column.data_type(), DataType::Timestamp(..)); // in microseconds: names of time zones do not print
        let column = if is_date { &arrow::compute::cast(column, &DataType::Int64).unwrap() } else { column };
        let text = |row| arrow::util::display::array_value_to_string(column, row).unwrap();
        (0..self.rows.num_rows()).map(text).collect()
    }
}

fn read_with(bytes: &[u8], options: WarcOptions) -> Read {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.warc");
    std::fs::write(&path, bytes).unwrap();
    let schema = warc_schema(options.content, options.headers);
    let part = FilePart { path, name: "f.warc".to_owned(), start: 0, end: bytes.len() as u64 };
    let mut reader = WarcReader::new(vec![part], options);
    let (mut batches, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(chunk) = reader.next_chunk().unwrap() {
        assert_eq!(chunk.rows.num_rows(), chunk.positions.offsets.len());
        offsets.extend(chunk.positions.offsets);
        bad.extend(chunk.bad);
        batches.push(chunk.rows);
    }
    let rows = arrow::compute::concat_batches(&schema, &batches).unwrap();
    let counts = reader.counts().into_iter().map(|((what, name), times)| format!("{what} {name} {times}")).collect();
    Read { rows, offsets, bad, counts }
}

fn read(bytes: &[u8]) -> Read {
    read_with(bytes, options())
}

/// A record with these header lines, and a block whose length is said as it is.
fn record(kind: &str, lines: &str, block: &[u8]) -> Vec<u8> {
    record_of(kind, lines, block, &block.len().to_string())
}

fn record_of(kind: &str, lines: &str, block: &[u8], length: &str) -> Vec<u8> {
    let head = format!("WARC/1.0\r\nWARC-Type: {kind}\r\n{lines}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), block, b"\r\n\r\n"].concat()
}

fn page(text: &str) -> Vec<u8> {
    let block = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{text}");
    record("response", "WARC-Target-URI: http://a.org/\r\nContent-Type: application/http\r\n", block.as_bytes())
}

fn page_with_length(text: &str, by: i64) -> Vec<u8> {
    let block = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{text}");
    let length = (block.len() as i64 + by).to_string();
    record_of("response", "WARC-Target-URI: http://a.org/\r\nContent-Type: application/http\r\n", block.as_bytes(), &length)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_record_becomes_a_row_with_what_it_says_of_itself() {
    let lines = "WARC-Target-URI: <http://www.example.org/a>\r\nWARC-Date: 2014-01-27T17:12:38.25Z\r\nWARC-Record-ID: <urn:uuid:1>\r\n\
                 WARC-Payload-Digest: sha1:X\r\nwarc-truncated: length\r\nContent-Type:application/http; msgtype=response\r\n";
    let block = b"HTTP/1.1 404 Not Found\r\nContent-Type: Text/HTML; Charset=\"ISO-8859-1\"\r\nno colon\r\n\r\nna\xEFve";
    let info = record("warcinfo", "Content-Type: application/warc-fields\r\n", b"software: by hand\r\n");
    let got = read_with(
        &[info.clone(), record("response", lines, block)].concat(),
        WarcOptions { headers: true, content: WarcContent::Both, ..options() },
    );
    assert_eq!((got.offsets.as_slice(), got.bad().len()), ([info.len() as u64].as_slice(), 0));
    let values: Vec<(String, String)> =
        got.rows.schema().fields().iter().map(|field| (field.name().clone(), got.column(field.name()).join(""))).collect();
    let expected = [
        ("url", "http://www.example.org/a"),
        ("date", "1390842758250000"),
        ("record_type", "response"),
        ("record_id", "urn:uuid:1"),
        ("status", "404"),
        ("mime", "text/html"),
        ("charset", "windows-1252"),
        ("payload_digest", "sha1:X"),
        ("truncated", "length"),
        ("warc_offset", &info.len().to_string()),
    ];
    assert_eq!(values[..10], expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(got.texts(), ["naïve"]);
    assert_eq!(got.rows.column_by_name("content").unwrap().as_binary::<i32>().value(0), b"na\xEFve");
    assert!(got.column("warc_headers")[0].contains("{name: Content-Type, value: application/http; msgtype=response}"));
    assert_eq!(got.column("http_headers"), ["[{name: Content-Type, value: Text/HTML; Charset=\"ISO-8859-1\"}]"]);
    assert_eq!(got.counts, ["http_header_without_colon response 1", "record_of_other_type warcinfo 1"]);
}

#[test]
fn what_is_no_text_has_none_and_other_types_are_counted() {
    let of = |mime: &str, block: &[u8]| record("resource", &format!("Content-Type: {mime}\r\n"), block);
    let bytes = [
        of("image/png", b"\x89PNG"),
        of("text/plain", b"plain"),
        of("application/ld+json", b"{}"),
        record("request", "", b"GET / HTTP/1.1\r\n\r\n"),
        record("conversion", "", b"no type"),
        record("resource", "", b"no type\0"),
        record("metadata", "", b""),
        record("request", "", b"GET / HTTP/1.1\r\n\r\n"),
    ]
    .concat();
    let got = read(&bytes);
    assert_eq!(got.texts(), ["NULL", "plain", "{}", "no type", "NULL"]);
    assert_eq!(got.counts, ["record_of_other_type metadata 1", "record_of_other_type request 2"]);
    let only = read_with(&bytes, WarcOptions { media_types: Some(vec!["text/plain".to_owned()]), ..options() });
    assert_eq!(only.texts(), ["plain"]);
    assert_eq!(
        only.counts[..3],
        ["record_of_other_media_type application/ld+json 1", "record_of_other_media_type image/png 1", "record_of_other_media_type none 2"]
    );
    let requests = read_with(&bytes, WarcOptions { record_types: vec![RecordType::Request], content: WarcContent::Bytes, ..options() });
    assert_eq!((requests.rows.num_rows(), requests.rows.column_by_name("html").is_none()), (2, true));
}

#[test]
fn transfer_and_content_codings_are_undone() {
    let http = |headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n");
        record("response", "Content-Type: application/http\r\n", &[head.as_bytes(), body].concat())
    };
    let packed = gz(b"packed text");
    let chunked = [format!("{:x}\r\n", packed.len()).as_bytes(), &packed, b"\r\n0\r\n\r\n"].concat();
    let bytes = [
        http("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        http("Transfer-Encoding: chunked\r\n", b"<p>not chunked"),
        http("transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n", &chunked),
        http("Content-Encoding: gzip\r\n", b"not packed"),
        http("Content-Encoding: gzip\r\n", &packed[..packed.len() - 9]),
        http("Content-Encoding: gzip\r\n", &gz(&vec![b'x'; (1 << 20) + 1])),
        http("Content-Encoding: none\r\n", b"as it is"),
    ]
    .concat();
    let got = read(&bytes);
    assert_eq!(got.texts(), ["abc", "<p>not chunked", "packed text", "not packed", "as it is"]);
    assert_eq!(got.bad.iter().map(|bad| bad.reason).collect::<Vec<_>>(), ["damaged_content", "content_too_long"]);
    assert_eq!(got.counts, ["not_chunked_as_declared response 1", "unknown_content_encoding none 1"]);
}

#[test]
fn digests_are_checked_if_that_is_asked() {
    let of = |digest: &str| record("resource", &format!("WARC-Payload-Digest: {digest}\r\n"), b"");
    let bytes = [of("sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"), of("sha1:AAAAH3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"), of("md5:1"), of("x")].concat();
    assert_eq!(read(&bytes).rows.num_rows(), 4);
    let got = read_with(&bytes, WarcOptions { check_digests: true, ..options() });
    assert_eq!((got.rows.num_rows(), got.bad.len()), (3, 1));
    assert_eq!(
        got.bad[0].detail,
        "WARC-Payload-Digest is sha1:AAAAH3S6NNFQ2MSVX7XZKYAYSCX5QBYJ, but what is there has 3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"
    );
    assert_eq!(got.counts, ["digest_not_checked md5 1", "digest_not_checked x 1"]);
    let http = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let empty = record("response", "WARC-Payload-Digest: sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ\r\n", http);
    assert_eq!(read_with(&empty, WarcOptions { check_digests: true, ..options() }).bad(), [""; 0], "of what the chunks hold");
}

#[test]
fn after_a_wrong_length_the_next_record_is_found() {
    let at = page("one").len();
    for (by, what) in [(-1, "short"), (-3, "all"), (20, "into the next"), (5000, "past the end"), (2_000_000, "over the limit")] {
        let got = read(&[page("one"), page_with_length("two", by), page("three"), page("four")].concat());
        assert_eq!(got.texts(), ["one", "three", "four"], "{what}");
        assert_eq!(got.bad(), [format!("{at} wrong_length")], "{what}: {:?}", got.bad);
    }
    // Behind a blank line it is the length that is right.
    let got = read(&[page("one"), b"garbage\n".to_vec(), page("two"), b"more".to_vec()].concat());
    assert_eq!((got.texts(), got.bad().len()), (vec!["one", "two"], 2));
    assert_eq!(got.bad()[0], format!("{at} garbage"));
    for length in ["x", "-1", "", "99999999999999999999"] {
        let got = read(&[page("one"), record_of("response", "", b"block", length), page("two")].concat());
        assert_eq!((got.texts(), got.bad()), (vec!["one", "two"], vec![format!("{at} no_length")]));
    }
}

#[test]
fn a_bad_header_costs_its_record_alone() {
    let at = page("one").len();
    let got = read(&[page("one"), record("resource", "no colon\r\n", b"two"), page("three")].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} bad_header")]));
    let got = read(&[page("one"), b"WARC/1.0\r\nWARC-Type: response\r\n".to_vec(), page("three")].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} bad_header")]));
    let got = read(&[page("one"), record("response", "Content-Type: application/http\r\n", b"<html>"), page("three")].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} no_http_status")]));
    let long = format!("X: {}\r\n", "x".repeat(2 << 20));
    let got = read(&[page("one"), record("resource", &long, b"two"), page("three")].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} bad_header")]));
    let got = read(&[page("one"), record("response", "WARC-Segment-Number: 1\r\n", b"x"), page("three")].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} segmented_record")]));
    // Line ends that were changed, folded lines, no status text.
    let odd = b"WARC/1.1\nWARC-Type:\n response\nContent-Length: 30\n\nHTTP/1.0 302 \r\r\nA: b\r\r\n\r\r\nbody\n\n";
    let got = read(&[page("one"), odd.to_vec(), page("three")].concat());
    assert_eq!(
        (got.texts(), got.column("status")),
        (vec!["one", "body", "three"], vec!["200".to_owned(), "302".to_owned(), "200".to_owned()])
    );
}

#[test]
fn a_file_that_ends_early_says_so() {
    let two = [page("one"), page("two")].concat();
    for cut in [5, 10, 60, 150] {
        let got = read(&two[..two.len() - cut]);
        assert_eq!((got.texts(), got.bad()), (vec!["one"], vec![format!("{} truncated_record", page("one").len())]), "{cut}");
    }
    for cut in [0, 1, 4] {
        assert_eq!(read(&two[..two.len() - cut]).bad(), [""; 0], "{cut}");
    }
    assert_eq!((read(b"").rows.num_rows(), read(b"\r\n\r\n").bad.len()), (0, 0));
    assert_eq!(read(b"no archive at all\n").bad(), ["0 garbage"]);
}

#[test]
fn members_are_read_whatever_they_hold() {
    let all = [page("one"), page("two"), page("three")];
    let plain = all.concat();
    let by_record: Vec<u8> = all.iter().flat_map(|record| gz(record)).collect();
    let by_block: Vec<u8> = plain.chunks(50).flat_map(gz).collect();
    let zst: Vec<u8> = all.iter().flat_map(|record| zstd::encode_all(&record[..], 3).unwrap()).collect();
    for (bytes, what) in [(&plain, "plain"), (&by_record, "records"), (&gz(&plain), "whole"), (&by_block, "blocks"), (&zst, "zst")] {
        let got = read(bytes);
        assert_eq!((got.texts(), got.bad()), (vec!["one", "two", "three"], vec![]), "{what}");
        assert_eq!(got.offsets, [0, all[0].len() as u64, (all[0].len() + all[1].len()) as u64], "{what}");
    }
    let places = |bytes: &[u8]| read(bytes).rows.column_by_name("warc_offset").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(places(&by_record), [0, gz(&all[0]).len() as i64, (gz(&all[0]).len() + gz(&all[1]).len()) as i64]);
    assert_eq!(places(&gz(&plain)), [0, 0, 0]);
    // Zeros at the end, as some systems fill files up.
    assert_eq!(read(&[by_record.clone(), vec![0; 100]].concat()).bad(), [""; 0]);
}

#[test]
fn zstd_files_may_bring_a_dictionary() {
    let samples: Vec<Vec<u8>> = (0..2).map(|n| page(&format!("a page about number {n}"))).collect();
    let dictionary = page("a page about something"); // any bytes may be one
    let pack = |bytes: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::with_dictionary(Vec::new(), 3, &dictionary).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    for stored in [dictionary.clone(), zstd::encode_all(&dictionary[..], 3).unwrap()] {
        let frame = [&b"\x5D\x2A\x4D\x18"[..], &u32::try_from(stored.len()).unwrap().to_le_bytes(), &stored].concat();
        let bytes = [frame, pack(&samples[0]), b"\x50\x2A\x4D\x18\x03\0\0\0abc".to_vec(), pack(&samples[1])].concat();
        let got = read(&bytes);
        assert_eq!((got.texts(), got.bad()), (vec!["a page about number 0", "a page about number 1"], vec![]));
    }
}

#[test]
fn a_damaged_member_costs_its_record_alone() {
    let long: String = (0..9000).map(|n| format!("{} ", n * 7919 % 10_007)).collect();
    let all = [gz(&page("one")), gz(&page(&long)), gz(&page("three"))];
    let at = page("one").len();
    let mut flipped = all[1].clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let mut wrong_sum = all[1].clone();
    let end = wrong_sum.len() - 6;
    wrong_sum[end] ^= 1;
    let cut = all[1][..middle].to_vec();
    for (member, what) in [(flipped, "flipped"), (wrong_sum, "checksum"), (cut.clone(), "cut"), (all[1][..5].to_vec(), "header alone")] {
        let got = read(&[&all[0][..], &member, &all[2]].concat());
        assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} damaged_file")]), "{what}");
    }
    let got = read(&[&all[0][..], &cut].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one"], vec![format!("{at} damaged_file, rest lost")]));
    let got = read(&[&all[0][..], b"garbage\x1F\x8B\x08 that begins no member", &all[2]].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} garbage")]));
    // A length that reaches into the next member.
    let got = read(&[&all[0][..], &gz(&page_with_length("two", 300)), &all[2]].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} wrong_length")]));
    let zst: Vec<Vec<u8>> = ["one", &long, "three"].iter().map(|text| zstd::encode_all(&page(text)[..], 3).unwrap()).collect();
    let got = read(&[&zst[0][..], &zst[1][..zst[1].len() / 2], &zst[2]].concat());
    assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{at} damaged_file")]));
}

#[test]
fn a_record_over_the_limit_is_passed_over_without_being_held() {
    let long = page(&"x".repeat(3 << 20));
    for packed in [false, true] {
        let pack = |bytes: &[u8]| if packed { gz(bytes) } else { bytes.to_vec() };
        let got = read(&[pack(&page("one")), pack(&long), pack(&page("three"))].concat());
        assert_eq!((got.texts(), got.bad()), (vec!["one", "three"], vec![format!("{} record_too_long", page("one").len())]));
        let other = record("metadata", "", &vec![b'x'; 3 << 20]);
        let got = read(&[pack(&page("one")), pack(&other), pack(&page("three"))].concat());
        assert_eq!(
            (got.texts(), got.bad(), got.counts.clone()),
            (vec!["one", "three"], vec![], vec!["record_of_other_type metadata 1".to_owned()])
        );
    }
    let whole = gz(&[page("one"), long, page("three")].concat());
    assert_eq!(read(&whole).texts(), ["one", "three"]);
}

const ARC_HEAD: &str = "filedesc://a.arc 0.0.0.0 20140216050221 text/plain 75\n1 0 By Hand\nURL IP-address Archive-date Content-type Archive-length\n\n\n\n\n\n\n\n\n\n";

fn arc(url: &str, block: &str) -> String {
    format!("{url} 93.184.216.119 20140216050221 text/html {}\n{block}\n", block.len())
}

#[test]
fn arc_files_are_read_too() {
    let head = &ARC_HEAD[..ARC_HEAD.find('\n').unwrap() + 1 + 75];
    let pages = [
        arc("http://a.org/with blanks", "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\none"),
        arc("dns:a.org", "two"),
        arc("http://b.org/", "HTTP/1.0 200\n\nthree"),
    ];
    let plain = format!("{head}\n{}", pages.concat());
    for bytes in [
        plain.clone().into_bytes(),
        gz(plain.as_bytes()),
        [gz(format!("{head}\n").as_bytes()), pages.iter().flat_map(|page| gz(page.as_bytes())).collect()].concat(),
    ] {
        let got = read(&bytes);
        assert_eq!((got.texts(), got.bad()), (vec!["one", "two", "three"], vec![]));
        assert_eq!(got.column("url"), ["http://a.org/with blanks", "dns:a.org", "http://b.org/"]);
        assert_eq!(got.column("date")[0], "1392526941000000");
        assert_eq!(
            got.rows.column_by_name("status").unwrap().as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
            [Some(200), None, Some(200)]
        );
        assert_eq!(got.counts, ["record_of_other_type warcinfo 1"]);
    }
    for bad in [
        "http://x.org/ 1.2.3.4 20140216050221 text/html -1\n\n",
        "http://x.org/ 1.2.3.4 20140216050221 text/html 9\ntoo long a block\n",
        "garbage\n",
    ] {
        let got = read(format!("{head}\n{}{bad}{}", pages[0], pages[1]).as_bytes());
        assert_eq!((got.texts(), got.bad.len()), (vec!["one", "two"], 1), "{bad:?}: {:?}", got.bad);
        assert_eq!(got.bad[0].offset, (head.len() + 1 + pages[0].len()) as u64);
    }
}

#[test]
fn a_date_is_a_place_on_the_calendar() {
    assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(micros("2000-02-29T12:00:00Z"), Some(951_825_600_000_000));
    assert_eq!(micros("20140216050221"), Some(1_392_526_941_000_000));
    assert_eq!(micros("2014-02-16T05:02:21.123456789Z"), Some(1_392_526_941_123_456));
    assert_eq!(micros("1969-12-31T23:59:59Z"), Some(-1_000_000));
    for bad in [
        "2014-02-30T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2014-02-16",
        "201402160502210000",
        "2014-02-16T05:02:21+01:00",
        "2014-13-01T00:00:00Z",
        "éééééééééé",
        "",
    ] {
        assert_eq!(micros(bad), None, "{bad}");
    }
}

#[test]
fn hostile_files_take_time_in_proportion() {
    // Each record says that it is as long as all that follows; each header has no end; each member is empty or holds a record of its own.
    let many = 20_000;
    let lies: Vec<u8> = (0..many).flat_map(|n| record_of("response", "", b"x", &(500_000 + n).to_string())).collect();
    let heads = b"WARC/1.0\r\nA: b\r\n".repeat(many);
    let members: Vec<u8> = (0..many).flat_map(|_| gz(&record_of("response", "", b"x", "500000"))).collect();
    let false_starts = [gz(b""), b"\x1F\x8B\x08\0\0\0\0\0\0\xFF".repeat(many)].concat();
    for bytes in [lies, heads, members, false_starts] {
        let got = read_with(&bytes, WarcOptions { batch_rows: 1000, ..options() });
        assert!(!got.bad.is_empty());
    }
}

proptest! {
    /// Whatever is done to a file, records before and behind it are read, and nothing panics.
    #[test]
    fn records_survive_what_is_done_to_their_neighbour(
        at in 0..1000_usize, with in proptest::collection::vec(any::<u8>(), 0..40), remove in 0..200_usize, how in 0..3,
    ) {
        let pack = |bytes: Vec<u8>| match how { 0 => bytes, 1 => gz(&bytes), _ => zstd::encode_all(&bytes[..], 1).unwrap() };
        let (first, last) = (pack(page("one")), pack(page("three")));
        let mut hurt = pack(page("the text of the second page"));
        let from = hurt.len() * at / 1000;
        let to = (from + remove).min(hurt.len());
        hurt.splice(from..to, with);
        let bytes = [first, hurt, last].concat();
        let got = read(&bytes);
        prop_assert_eq!(got.texts().first().copied(), Some("one"));
        let again = read_with(&bytes, WarcOptions { batch_rows: 1000, ..options() });
        prop_assert_eq!((&got.rows, &got.offsets, &got.bad), (&again.rows, &again.offsets, &again.bad));
        let mut places: Vec<u64> = got.offsets.iter().copied().chain(got.bad.iter().map(|bad| bad.offset)).collect();
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), got.offsets.len() + got.bad.len(), "two of one place");
    }
}
