package f1hbase;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * Rows as columns that Arrow takes as they are, where they are all alike: their keys have one beginning, of numbers and
 * `#`, and end in a time; their cells are whole numbers of 32 bits, spelt as JSON spells them, in columns that are known.
 *
 * <p>Little-endian: the rows, the columns, the bytes of the keys' beginning and those of all times (4 bytes each); of each
 * column how many rows lack it (4 bytes); the beginning; of each column the numbers (4 bytes each) and, if any row lacks
 * it, which ones have it (a bit each, the lowest first); where each time begins, and the last one ends (4 bytes each); the
 * times. Each of these begins at a multiple of 8 bytes.
 */
final class Blocks {
  private static final byte SEPARATOR = '#';
  private static final byte[] UTC = {'+', '0', '0', ':', '0', '0'};
  private static final byte[] SECONDS = {'0', '0', '0', '0', '-', '0', '0', '-', '0', '0', 'T', '0', '0', ':', '0', '0', ':', '0', '0'};
  private static final long LARGEST = Integer.MAX_VALUE;
  private static final int MOST_DIGITS = 10;

  private final byte[][] qualifiers;

  /** In the order in which cells come, the place of each column among those that were asked for. */
  private final int[] places;

  private int[][] values = {};
  private byte[][] present = {};
  private int[] absent = {};
  private long number;

  Blocks(byte[][] columns) {
    Integer[] order = new Integer[columns.length];
    Arrays.setAll(order, place -> place);
    Arrays.sort(order, (one, other) -> Bytes.compareTo(columns[one], columns[other]));
    places = Arrays.stream(order).mapToInt(place -> place).toArray();
    qualifiers = Arrays.stream(order).map(place -> columns[place]).toArray(byte[][]::new);
  }

  /** Returns where the rows end whose keys begin as that of a row does; keys are in order. */
  int end(Result[] results, int from) {
    byte[] key = results[from].getRow();
    int lead = lead(key);
    int to = results.length;
    if (!begins(results[to - 1].getRow(), key, lead)) {
      for (to = from + 1; begins(results[to].getRow(), key, lead); to++) {}
    }
    return to;
  }

  /** Makes a message of rows whose keys begin alike; null if a row is of another kind. */
  byte[] message(int range, int kind, Result[] results, int from, int to) {
    int rows = to - from;
    byte[] first = results[from].getRow();
    int lead = lead(first);
    if (!isNumbers(first, lead)) {
      return null;
    }
    makeRoom(rows);
    int times = 0;
    for (int row = 0; row < rows; row++) {
      byte[] key = results[from + row].getRow();
      if (!isTime(key, lead + 1) || !take(results[from + row].rawCells(), row)) {
        return null;
      }
      times += key.length - lead - 1;
    }
    int columns = places.length;
    int size = padded(16 + 4 * columns) + padded(lead) + padded(4 * (rows + 1)) + times;
    for (int column = 0; column < columns; column++) {
      size += padded(4 * rows) + (absent[column] > 0 ? padded((rows + 7) / 8) : 0);
    }
    ByteBuffer out = Scans.message(range, kind, size).order(ByteOrder.LITTLE_ENDIAN);
    out.putInt(rows).putInt(columns).putInt(lead).putInt(times);
    for (int column = 0; column < columns; column++) {
      out.putInt(absent[column]);
    }
    pad(out);
    out.put(first, 0, lead);
    pad(out);
    for (int column = 0; column < columns; column++) {
      out.asIntBuffer().put(values[column], 0, rows);
      out.position(out.position() + 4 * rows);
      pad(out);
      if (absent[column] > 0) {
        out.put(present[column], 0, (rows + 7) / 8);
        pad(out);
      }
    }
    int at = 0;
    for (int row = from; row < to; row++) {
      out.putInt(at);
      at += results[row].getRow().length - lead - 1;
    }
    out.putInt(at);
    pad(out);
    for (int row = from; row < to; row++) {
      byte[] key = results[row].getRow();
      out.put(key, lead + 1, key.length - lead - 1);
    }
    return out.array();
  }

  private void makeRoom(int rows) {
    if (values.length < places.length || values[0].length < rows) {
      values = new int[places.length][rows];
      present = new byte[places.length][(rows + 7) / 8];
    }
    absent = new int[places.length];
    Arrays.fill(absent, rows);
    for (int column = 0; column < places.length; column++) {
      Arrays.fill(values[column], 0);
      Arrays.fill(present[column], (byte) 0);
    }
  }

  /** Takes the cells of a row; returns whether it can. */
  private boolean take(Cell[] cells, int row) {
    int next = 0;
    for (Cell cell : cells) {
      while (next < qualifiers.length && !isOf(cell, qualifiers[next])) {
        next++;
      }
      if (next == qualifiers.length
          || !parse(cell.getValueArray(), cell.getValueOffset(), cell.getValueLength())) {
        return false;
      }
      int column = places[next++];
      values[column][row] = (int) number;
      present[column][row >> 3] |= (byte) (1 << (row & 7));
      absent[column]--;
    }
    return true;
  }

  private static boolean isOf(Cell cell, byte[] qualifier) {
    return Bytes.equals(
        cell.getQualifierArray(), cell.getQualifierOffset(), cell.getQualifierLength(),
        qualifier, 0, qualifier.length);
  }

  /** Reads a whole number; returns whether it is one, in the only way to spell it. */
  private boolean parse(byte[] text, int offset, int length) {
    int at = offset;
    int end = offset + length;
    boolean isNegative = length > 0 && text[at] == '-';
    if (isNegative) {
      at++;
    }
    if (at == end || end - at > MOST_DIGITS || (text[at] == '0' && length > 1)) {
      return false;
    }
    long read = 0;
    for (; at < end; at++) {
      int digit = text[at] - '0';
      if (digit < 0 || digit > 9) {
        return false;
      }
      read = 10 * read + digit;
    }
    number = isNegative ? -read : read;
    return read <= LARGEST;
  }

  /** Returns whether a key ends, from there on, in a time such as `2025-03-14T11:00:00.25+00:00`. */
  private static boolean isTime(byte[] key, int from) {
    int fraction = from + SECONDS.length;
    int zone = key.length - UTC.length;
    if (zone < fraction || !Bytes.equals(key, zone, UTC.length, UTC, 0, UTC.length)) {
      return false;
    }
    for (int at = 0; at < SECONDS.length; at++) {
      byte found = key[from + at];
      if (SECONDS[at] == '0' ? found < '0' || found > '9' : found != SECONDS[at]) {
        return false;
      }
    }
    if (fraction == zone) {
      return true;
    }
    for (int at = fraction + 1; at < zone; at++) {
      if (key[at] < '0' || key[at] > '9') {
        return false;
      }
    }
    return key[fraction] == '.' && zone > fraction + 1;
  }

  /** Returns how many bytes a key has before its last separator; -1 if it has none. */
  private static int lead(byte[] key) {
    int at = key.length - 1;
    while (at >= 0 && key[at] != SEPARATOR) {
      at--;
    }
    return at;
  }

  private static boolean begins(byte[] key, byte[] other, int lead) {
    return lead(key) == lead && Bytes.equals(key, 0, Math.max(lead, 0), other, 0, Math.max(lead, 0));
  }

  private static boolean isNumbers(byte[] key, int lead) {
    for (int at = 0; at < lead; at++) {
      if (key[at] != SEPARATOR && (key[at] < '0' || key[at] > '9')) {
        return false;
      }
    }
    return lead > 0;
  }

  private static int padded(int size) {
    return (size + 7) & ~7;
  }

  private static void pad(ByteBuffer out) {
    // The message has 8 bytes before it.
    out.position(padded(out.position()));
  }
}
