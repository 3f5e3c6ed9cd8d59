"""Questions become answers: schema, reader inputs, decoding, evidence."""
