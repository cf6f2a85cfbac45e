//! What a sender gains by lies about content.

use super::*;

#[test]
fn wrong_literals_are_a_lie_seen_at_once() {
    let new = one(noise(3, 2_000_000));
    let sender = Sender::new(&Files0::new(), &new);
    let (path, entry) = changed_files(&sender).remove(0);
    let items = Files(vec![FileItem::plain(path.clone(), way::ALL)]);
    let request = Content { module: "m".into(), head: head_id(&sender.new), base: None };
    let messages = ask(&sender, Message::new(tag::CONTENT, &request), vec![items.message()]);
    let mut receiver = receiver(&Files0::new());
    let mut fetch = Fetch::default();
    fetch.expect(wanted(&path, &entry, way::ALL));
    let mut refused = false;
    for mut message in messages {
        if message.tag == tag::LEAVES {
            fetch.leaves(&message.body).unwrap();
            continue;
        }
        // The same steps with other bytes, unpacked.
        let batch = Batch::decode(&message.body).unwrap();
        let mut literals = batch.literals(&[]).unwrap();
        literals[700_000] ^= 1;
        let mut writer = crate::protocol::batch::BatchWriter::default();
        let mut rest = &literals[..];
        for step in &batch.steps {
            for l in step.lengths() {
                writer.chunk(&rest[..*l as usize]);
                rest = &rest[*l as usize..];
            }
        }
        writer.end();
        message = writer.take();
        refused |= fetch.batch(&message.body, &mut receiver).is_err();
        break;
    }
    assert!(refused && receiver.landed.borrow().is_empty());
}
