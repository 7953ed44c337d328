/** Access to an element that must be there: a wrong index throws instead of passing as `undefined`. */

/** @throws RangeError when there is no element at `index`. */
export function at<Element>(elements: ArrayLike<Element>, index: number): Element {
  const element = elements[index];
  if (element === undefined)
    throw new RangeError(`no element ${index} in a list of ${elements.length}`);
  return element;
}
