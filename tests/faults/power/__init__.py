"""Power cuts, simulated: what SQLite and the library did to the disk, and every disk that a cut could have left.

A scenario of real processes runs under ``tests.faults.interpose``, which records each write, truncation, sync, creation
and removal. The model (``disk.py``) replays the record and says, for an instant, what must be on the disk and what may
be. Out of what may be, random choices are laid out in fresh directories, and each is opened with the real library
(``cuts.py``): SQLite and the library must make a sound store of it that holds everything that was acknowledged.

The model, and where it is harsher than a real disk:

* **Data.** ``fsync`` or ``fdatasync`` of a file that returned 0 has made durable what had been written to it, and its
  size, before the sync began. (fdatasync writes "metadata ... needed in order to allow a subsequent data retrieval to
  be correctly handled", the size among them: fdatasync(2).) Nothing else makes data durable: no later write, no sync of
  another file or of the directory, no time.
* **What was not synced** may be on the disk, or not, independently for each *sector of 512 bytes*: a sector holds what
  was durable, or what the page cache held after any one of the writes since. So writes are dropped, kept in part,
  reordered at will, and torn between sectors. The file's size is that of any moment since, chosen by itself; where a
  file has grown and its data has not arrived, there are zeros or, harsher, rubbish.
* **A sector is never torn inside**: it is the old one or the new one. And a write changes no byte outside of its range:
  SQLite's "powersafe overwrite", which it assumes on unix unless told otherwise (sqlite.org/psow.html; the earlier
  assumptions are in sqlite.org/atomiccommit.html, section 2). Disks that destroy a neighbouring sector when the power
  goes, or acknowledge a flush that they did not do, are outside of SQLite's promise and of this model.
* **Names.** Only a sync of the directory that returned 0 makes its entries durable: creations and removals before it.
  What was not synced may have happened or not, each name by itself. ext4 and others also make a new file's entry
  durable when the file itself is synced: that is *not* assumed here. Names of directories likewise, in their parents.
* **The shared-memory file** does not survive: SQLite rebuilds it. Locks do not survive either; the lock *files* do or
  do not, as any other name.
* **A sync that failed** has made nothing durable.

**Where it is cut.** Between two completed syncs the set of disks that a cut can leave only grows: what could be left by
a cut early in that interval could be left by one right before its end, when nothing of what was written need have
arrived. So all cuts of an interval are choices at its end, and the strictest demand for each of them is: all that was
acknowledged before its end. "In order up to some byte" (the naive cut) is one kind of choice among others.

**What is demanded.** See ``cuts.py``. Two opens of the same disk differ in nothing, so disks are told apart by their
content, and the counted cuts are distinct disks.
"""
