package f1hbase;

import java.nio.ByteBuffer;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.client.Result;

/**
 * Rows as the Thrift gateway answers `scannerGetList` in its binary protocol, which Python has a quick reader of.
 */
final class Answers {
  private static final byte STRUCT = 12;
  private static final byte STRING = 11;
  private static final byte LIST = 15;
  private static final byte MAP = 13;
  private static final byte I64 = 10;
  private static final byte STOP = 0;
  private static final int REPLY = 0x80010002;
  private static final byte[] NAME = {'s', 'c', 'a', 'n', 'n', 'e', 'r', 'G', 'e', 't', 'L', 'i', 's', 't'};

  private static final int AROUND_ROWS = 4 + 4 + NAME.length + 4 + 3 + 1 + 4 + 1;
  private static final int AROUND_ROW = 3 + 4 + 3 + 1 + 1 + 4 + 1;
  private static final int AROUND_CELL = 4 + 1 + 3 + 4 + 3 + 8 + 1;
  private static final Cell[] NONE = {};

  private Answers() {}

  /** Makes a message of rows. */
  static byte[] message(int number, int kind, Result[] results, boolean keysOnly) {
    int size = AROUND_ROWS;
    for (Result result : results) {
      size += AROUND_ROW + result.getRow().length;
      for (Cell cell : keysOnly ? NONE : result.rawCells()) {
        size += AROUND_CELL + cell.getFamilyLength() + cell.getQualifierLength() + cell.getValueLength();
      }
    }
    ByteBuffer out = Scans.message(number, kind, size);
    out.putInt(REPLY).putInt(NAME.length).put(NAME).putInt(0);
    out.put(LIST).putShort((short) 0).put(STRUCT).putInt(results.length);
    for (Result result : results) {
      Cell[] cells = keysOnly ? NONE : result.rawCells();
      byte[] key = result.getRow();
      out.put(STRING).putShort((short) 1).putInt(key.length).put(key);
      out.put(MAP).putShort((short) 2).put(STRING).put(STRUCT).putInt(cells.length);
      for (Cell cell : cells) {
        out.putInt(cell.getFamilyLength() + 1 + cell.getQualifierLength());
        out.put(cell.getFamilyArray(), cell.getFamilyOffset(), cell.getFamilyLength()).put((byte) ':');
        out.put(cell.getQualifierArray(), cell.getQualifierOffset(), cell.getQualifierLength());
        out.put(STRING).putShort((short) 1).putInt(cell.getValueLength());
        out.put(cell.getValueArray(), cell.getValueOffset(), cell.getValueLength());
        out.put(I64).putShort((short) 2).putLong(cell.getTimestamp()).put(STOP);
      }
      out.put(STOP);
    }
    return out.put(STOP).array();
  }
}
