"""The papers' own methods: MeMSVD, TinyMem, S5 and long-form video. Not in the wheel."""
